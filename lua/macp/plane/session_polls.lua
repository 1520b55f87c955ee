-- Polls: runs that were announced wait for the runtime to know their sessions. They wait in one queue, without a task of
-- their own; the runtime is asked about the ones that are due, with pauses that double. The watch of sessions usually tells
-- earlier.

local sys = require("host.sys")
local task = require("host.task")

local due_queue = require("macp.core.due_queue")
local errors = require("macp.core.errors")
local protocol = require("macp.protocol.lifecycle")
local standing = require("macp.plane.standing")

-- Answers after which the session may still come.
local RETRY = {
  NOT_FOUND = true, RUNTIME_UNAVAILABLE = true, RUNTIME_TIMEOUT = true, RATE_LIMITED = true,
  CIRCUIT_BREAKER_OPEN = true,
}
local MAX_DENIALS = 3
local PER_S = 500 -- of all waiting runs; beyond that each waits longer
local PARALLEL = 256 -- questions on their way

---@class macp.plane.SessionPolls
local SessionPolls = {}
SessionPolls.__index = SessionPolls

local M = { RETRY = RETRY }

---@class macp.plane.Waiting a run that waits
---@field run macp.plane.Run|macp.plane.Announced
---@field mode_name string
---@field due number|nil when it is asked next; nil: it is being asked
---@field again boolean|nil it was told of meanwhile
---@field span macp.Span|nil

---@param opts { client: table, supervisor: table, base_ms: integer, max_ms: integer, timeout_ms: integer,
---  begin: fun(run: table, mode_name: string): true|nil, table|nil, tracer: macp.Tracer|nil,
---  check: fun(run: table, mode_name: string): boolean|nil, table|nil,
---  found: fun(run: table, metadata: table, asked: integer),
---  failed: fun(run: table, reason: { code: string, message: string }) }
--- begin runs when the run's turn comes first (yields); check runs before the first question (yields): nil and why it
--- is not worth waiting; found (yields) and failed end it
function M.new(opts)
  return setmetatable({
    client = opts.client, supervisor = opts.supervisor, base_ms = opts.base_ms, max_ms = opts.max_ms,
    timeout_ms = opts.timeout_ms, begin = opts.begin, check = opts.check, tracer = opts.tracer,
    found = opts.found, failed = opts.failed, waiting = {}, count = 0, asking = 0,
    queue = due_queue.new(), changed = task.cond(),
  }, SessionPolls)
end

-- What an answer of GetSession means: "found", "wait", or nil and why the run fails.
local function judge(metadata, err, denials)
  if metadata then
    local state = type(metadata.state) == "number" and protocol.NAMES[metadata.state] or metadata.state
    if state == "SESSION_STATE_EXPIRED" then
      return nil, { code = "SESSION_EXPIRED", message = "the session expired before it was observed" }
    end
    if state == "SESSION_STATE_UNSPECIFIED" then return "wait" end
    return "found"
  end
  if RETRY[err.code] then return "wait" end
  if errors.is(err, "FORBIDDEN") and denials < MAX_DENIALS then return "wait" end
  return nil, { code = err.code, message = tostring(err.message) }
end

-- How long to wait: what is left since the run was made. From here on the wall clock may jump as it likes.
local function budget(self, run)
  local waited = run.created_ms and sys.now_ms() - run.created_ms or 0
  return math.max(0, math.min(self.timeout_ms, self.timeout_ms + self.max_ms - waited))
end

local function is_over(run)
  run = run.became or run
  return run.gone or run:has_ended() or run.session
end

-- What log lines and calls about a run have in common.
local function scope_of(run) return run.scope or { run.context, run_id = run.id, trace_id = run.trace_id } end

-- The pause before the next question; among many it is longer, and not the same for all.
local function pause_of(self, pause_ms)
  local crowded_ms = self.count * 1000 / PER_S
  if crowded_ms <= pause_ms then return pause_ms end
  return crowded_ms * (0.9 + 0.2 * math.random())
end

local function schedule(self, item, due)
  local earliest = self.queue:first()
  item.due = due
  self.queue:push(due, item)
  if earliest == nil or due < earliest then self.changed:signal() end
end

local function leave(self, item)
  local session_id = item.run.session_id
  if self.waiting[session_id] == item then self.waiting[session_id] = nil end
  self.count = self.count - 1
  item.has_left = true
end

---The run waits for its session from now on.
---@param run macp.plane.Run|macp.plane.Announced
---@param mode_name string
---@param opts { is_checked: boolean|nil, is_absent: boolean|nil }|nil is_checked: check would have nothing to say;
---  is_absent: the runtime cannot know the session yet, or would have told: the first question comes after a pause
function SessionPolls:wait(run, mode_name, opts)
  local now = sys.mono_ms()
  local item = { run = run, mode_name = mode_name, pause_ms = self.base_ms, denials = 0,
    deadline = now + budget(self, run), is_checked = opts and opts.is_checked, asked_from = now, has_left = false }
  self.waiting[run.session_id] = item
  self.count = self.count + 1
  if opts and opts.is_absent then item.asked_from = math.min(now + pause_of(self, self.base_ms), item.deadline) end
  schedule(self, item, item.is_checked and item.asked_from or now)
end

---The runtime announced the session: it is asked for at once if somebody waits for it.
function SessionPolls:session_created(session_id)
  local item = self.waiting[session_id]
  if item == nil then return end
  item.asked_from = 0
  if item.due == nil then item.again = true else schedule(self, item, sys.mono_ms()) end
end

-- A part of a run's launch as a span, when the run is recorded.
local function begin_span(self, run, name, attributes)
  local span = self.tracer and self.tracer:child(name, run.span, attributes)
  if span then task.set_scope({ span, run_id = run.id, trace_id = run.trace_id }) end
  return span
end

local function end_span(span, reason)
  if span == nil then return end
  if reason then span:fail(reason) end
  span:finish()
end

-- (yields)
local function check(self, item)
  local run = item.run
  local span = begin_span(self, run, "runtime.initialize",
    { run_id = run.id, runtime_kind = run.kind, mode_name = item.mode_name })
  local ok, reason = self.check(run, item.mode_name)
  end_span(span, not ok and reason or nil)
  return ok, reason
end

-- Asks once: the session's metadata and the moment before it was asked for, false while it is not there, or nil and why
-- it never will be. (yields)
local function ask(self, item)
  local run = item.run
  if item.span then
    task.set_scope({ item.span, run_id = run.id, trace_id = run.trace_id })
  else
    item.span = begin_span(self, run, "runtime.await_session_open",
      { run_id = run.id, runtime_kind = run.kind, session_id = run.session_id })
  end
  local asked = standing.moment()
  local metadata, err = self.client:get_session(run.session_id)
  if is_over(run) then return nil end
  item.denials = errors.is(err, "FORBIDDEN") and item.denials + 1 or 0
  local verdict, reason = judge(metadata, err, item.denials)
  if verdict == nil then return nil, reason end
  if verdict == "found" then return metadata, asked end
  item.left_ms = item.deadline - sys.mono_ms()
  if item.pause_ms > item.left_ms then
    return nil, { code = "RUNTIME_TIMEOUT", message = "the session was not opened in time (the last answer: "
      .. (err and tostring(err.message) or tostring(metadata.state)) .. ")" }
  end
  return false
end

-- One look at a run that is due: what to do next, "again", "end" or "found" with metadata and moment. (yields)
local function look(self, item)
  local run = item.run
  if is_over(run) then return "end" end
  local begun, err = self.begin(run, item.mode_name)
  if not begun then return "end", err end
  if is_over(run) then return "end" end
  if not item.is_checked then
    local ok, reason = check(self, item)
    if not ok then return "end", reason end
    item.is_checked = true
    if is_over(run) then return "end" end
    if item.asked_from > sys.mono_ms() then return "again", item.asked_from end
  end
  local found, told = ask(self, item)
  if found == nil then return "end", told end
  if found then return "found", found, told end
  local wait_ms = math.min(pause_of(self, item.pause_ms), item.left_ms)
  item.pause_ms = math.min(item.pause_ms * 2, self.max_ms)
  return "again", sys.mono_ms() + wait_ms
end

-- (yields)
local function serve(self, item)
  local run = item.run
  local scope = scope_of(run)
  task.set_scope(scope)
  local ok, what, value, asked = pcall(look, self, item)
  task.set_scope(scope)
  self.asking = self.asking - 1
  if self.asking == PARALLEL - 1 then self.changed:signal() end
  if ok and what == "again" then
    schedule(self, item, item.again and sys.mono_ms() or value)
    item.again = nil
    return true
  end
  leave(self, item)
  local reason = what == "end" and value or nil
  end_span(item.span, reason)
  if not ok then error(what, 0) end
  if reason and reason.code == "CANCELLED" then return nil, reason end
  if is_over(run) then return true end
  if what == "found" then self.found(run, value, asked) elseif reason then self.failed(run, reason) end
  return true
end

-- Starts what is due; nil when nothing is, or too much is on its way, and how long that may last.
local function start_next(self)
  if self.asking >= PARALLEL then return nil end
  local due, item = self.queue:first()
  if due == nil then return nil end
  local left = due - sys.mono_ms()
  if left > 0 then return nil, math.ceil(left) end
  self.queue:pop()
  if item.has_left or item.due ~= due then return true end -- it was told of, or has left
  item.due = nil
  self.asking = self.asking + 1
  local child = self.supervisor:start("launch." .. item.run.id, function() return serve(self, item) end,
    { restart = "never" })
  if child == nil then self.asking = self.asking - 1 end -- the end of the program: others will wait for its session
  return true
end

---Asks about the runs that are due, until the task is cancelled. (yields)
function SessionPolls:work()
  while true do
    local started, left_ms = start_next(self)
    if not started then
      local _, err = self.changed:wait(left_ms)
      if err and err.code == "CANCELLED" then return nil, err end
    end
  end
end

return M
