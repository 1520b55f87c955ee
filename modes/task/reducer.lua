-- The task as people read it: who was asked, who works on it, how far it is, how it ended. Texts of the payload are
-- shown; bytes only by their size. The size of a view is bounded: a session may have any number of updates.
local macp = require "macp"

local MAX_RECENT = 50

-- The last entries, newest first.
local function recent(list, show)
  local out = macp.array {}
  for i = #list, math.max(1, #list - MAX_RECENT + 1), -1 do out[#out + 1] = show(list[i]) end
  return out
end

local function update(own)
  return { by = own.sender, status = own.status, progress = own.progress, message = own.message,
    output_bytes = #own.partial_output }
end

local function rejection(own)
  return { by = own.assignee, reason = own.reason }
end

local function status(s)
  if s.task == nil then return "waiting" end
  if s.terminal_report then return s.terminal_report.Complete and "completed" or "failed" end
  if s.active_assignee then return "assigned" end
  return #s.rejections > 0 and "rejected" or "requested"
end

local function task(s)
  local own = s.task
  if own == nil then return nil end
  return { id = own.task_id, title = own.title, instructions = own.instructions, by = own.requester,
    requested_assignee = own.requested_assignee ~= "" and own.requested_assignee or nil,
    deadline_unix_ms = own.deadline_unix_ms ~= 0 and own.deadline_unix_ms or nil, input_bytes = #own.input }
end

local function report(s)
  local own = s.terminal_report
  if own == nil then return nil end
  if own.Complete then
    return { by = own.Complete.assignee, outcome = "completed", summary = own.Complete.summary,
      output_bytes = #own.Complete.output }
  end
  return { by = own.Fail.assignee, outcome = "failed", error_code = own.Fail.error_code, reason = own.Fail.reason,
    retryable = own.Fail.retryable }
end

local function latest(s) return s.updates[#s.updates] end

return {
  render = function(s, c)
    local last = latest(s)
    return {
      status     = status(s),
      task       = task(s),
      assignee   = s.active_assignee,
      progress   = last and last.progress or nil,
      updates    = recent(s.updates, update), update_count = #s.updates,
      rejections = recent(s.rejections, rejection),
      report     = report(s),
      policy     = { id = c.policy_id, reassignment = c.rules.assignment.allow_reassignment_on_reject,
        output_required = c.rules.completion.require_output },
    }
  end,

  summary = function(s)
    if s.task == nil then return "no task yet" end
    local who, last = s.active_assignee, latest(s)
    local text = status(s) .. ": " .. (s.task.title ~= "" and s.task.title or s.task.task_id)
    if who then text = text .. " (" .. who .. ")" end
    if last and not s.terminal_report and last.status ~= "" then text = text .. ", " .. last.status end
    return text
  end,
}
