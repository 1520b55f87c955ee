-- Governance of tasks (RFC-MACP-0012). Reassignment is a matter of the messages (mode.lua); what a completed task must
-- bring with it is judged here.
local rules = {
  ["assignment.allow_reassignment_on_reject"] = { type = "boolean", default = false,
    doc = "whether the assignee may give the task back, and who rejected may accept after all" },
  ["completion.require_output"] = { type = "boolean", default = false,
    doc = "whether a task without output cannot be committed as completed" },
}

local function evaluate(s, d, c)
  local report = s.terminal_report.Complete
  if not c.rules.completion.require_output or report == nil or report.output ~= "" then return end
  if d.positive then
    d.deny("completion.require_output: the task was completed without output")
  else
    d.allow("completion.require_output: the task was completed without output, which does not block a failure")
  end
end

return { rules = rules, evaluate = evaluate }
