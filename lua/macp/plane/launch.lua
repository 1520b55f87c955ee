-- Launch: a run that was announced (POST /runs) waits for its session to open, is bound to it, and is observed. When the
-- request asks for it, the launcher opens the session first.

local log = require("host.log")
local sys = require("host.sys")
local task = require("host.task")

local errors = require("macp.core.errors")
local fault = require("macp.core.fault")
local protocol = require("macp.protocol.lifecycle")
local binding = require("macp.plane.binding")
local ending = require("macp.plane.ending")
local lifecycle = require("macp.plane.lifecycle")
local standing = require("macp.plane.standing")

-- Answers after which the session may still come.
local RETRY = {
  NOT_FOUND = true, RUNTIME_UNAVAILABLE = true, RUNTIME_TIMEOUT = true, RATE_LIMITED = true,
  CIRCUIT_BREAKER_OPEN = true,
}
local MAX_DENIALS = 3
local POLLS_PER_S = 500 -- of all waiting runs; beyond that each waits longer, the watch of sessions tells earlier anyway
local HELLO_MS = 1000 -- how long it is believed that the runtime supports a mode

---@class macp.plane.Launcher
local Launcher = {}
Launcher.__index = Launcher

local M = {}

---@param opts { client: table, registry: table|nil, owner: table, opening: macp.plane.Opening, poll_base_ms: integer,
---  poll_max_ms: integer, poll_timeout_ms: integer, observe: fun(run: macp.plane.Run),
---  questions: macp.plane.Questions, tracer: macp.Tracer|nil }
function M.new(opts)
  return setmetatable({
    client = opts.client, registry = opts.registry, owner = opts.owner, opening = opts.opening,
    base_ms = opts.poll_base_ms, max_ms = opts.poll_max_ms, timeout_ms = opts.poll_timeout_ms,
    observe = opts.observe, questions = opts.questions, tracer = opts.tracer, waiting = {},
    waiting_count = 0, hello = nil, hello_until = 0,
  }, Launcher)
end

---The runtime announced the session: whoever waits for it looks at once.
function Launcher:session_created(session_id)
  local cond = self.waiting[session_id]
  if cond then cond:signal() end
end

-- What an answer of GetSession means: "open" and friends, "wait", or nil and why the run fails.
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

-- Asks until the session is there: its metadata, and the moment before they were asked for; or why it
-- never will be. (yields)
local function await_session(self, run, cond)
  local deadline = sys.mono_ms() + budget(self, run)
  local delay, denials = self.base_ms, 0
  while true do
    local asked = standing.moment()
    local metadata, err = self.client:get_session(run.session_id)
    if run.gone or run:has_ended() then return nil end
    denials = errors.is(err, "FORBIDDEN") and denials + 1 or 0
    local verdict, reason = judge(metadata, err, denials)
    if verdict == "found" then return { metadata = metadata, asked = asked } end
    if verdict == nil then return nil, reason end
    local left = deadline - sys.mono_ms()
    if delay > left then
      return nil, { code = "RUNTIME_TIMEOUT", message = "the session was not opened in time (the last answer: "
        .. (err and tostring(err.message) or tostring(metadata.state)) .. ")" }
    end
    local crowded = self.waiting_count * 1000 / POLLS_PER_S
    local _, wait_err = cond:wait(math.min(math.max(delay, crowded), left))
    if wait_err and wait_err.code == "CANCELLED" then return nil, wait_err end
    if run.gone or run:has_ended() then return nil end
    delay = math.min(delay * 2, self.max_ms)
  end
end

local function supports(hello, mode_name)
  local modes = hello.supported_modes or {}
  if #modes == 0 then return true end
  for _, name in ipairs(modes) do
    if name == mode_name then return true end
  end
  return false
end

-- The runtime must know the mode before it is worth waiting. That it does not is asked each time. (yields)
local function check_mode(self, _, mode_name)
  if self.hello and sys.mono_ms() < self.hello_until and supports(self.hello, mode_name) then return true end
  local hello, err = self.client:initialize()
  if hello == nil then
    if RETRY[err.code] then return true end
    return nil, { code = err.code, message = tostring(err.message) }
  end
  self.hello, self.hello_until = hello, sys.mono_ms() + HELLO_MS
  if supports(hello, mode_name) then return true end
  return nil, { code = "MODE_NOT_SUPPORTED", message = "the runtime does not support " .. mode_name }
end

---Binds a run to a session that exists and starts to observe it. (yields)
---@param metadata table SessionMetadata
---@param order { asked: integer|nil, at_ms: integer|nil, state: string|nil } of binding.told
function Launcher:attach(run, metadata, order)
  local session, rev = binding.prepare(self.client, self.registry, metadata)
  if run.gone or run:has_ended() or run.session then return false end
  self.owner:bind(run, session, rev)
  local bound, err = lifecycle.bound(run)
  if not bound then
    log.info("run.bind_skipped", { run_id = run.id, reason = err and err.message })
    return false
  end
  fault("launch.bound")
  lifecycle.running(run)
  local certain = standing.hear(run, binding.told(metadata, order))
  lifecycle.register_trace(run)
  if not certain then self.questions:expect(run) end
  self.observe(run)
  return true
end

-- A part of a run's launch as a span, when the run is recorded: fn(self, run, ...) fails with nil, reason. (yields)
local function traced(self, run, name, attributes, fn, ...)
  local span = self.tracer and self.tracer:child(name, run.span, attributes)
  if span == nil then return fn(self, run, ...) end
  task.set_scope({ span, run_id = run.id, trace_id = run.trace_id })
  local value, why = fn(self, run, ...)
  task.set_scope(run.scope)
  if value == nil and why then span:fail(why) end
  span:finish()
  return value, why
end

---From queued (or starting, after a restart) to observed, or to failed. (yields)
---@param run macp.plane.Run
---@param request table the checked request, or what is kept of it
function Launcher:launch(run, request)
  local mode_name = request.session.modeName
  task.set_scope(run.scope)
  if run.status == "queued" then lifecycle.starting(run, mode_name) end
  local cond = task.cond()
  self.waiting[run.session_id] = cond
  self.waiting_count = self.waiting_count + 1
  local ok, reason = self.opening:open(run, request)
  if ok then
    ok, reason = traced(self, run, "runtime.initialize",
      { run_id = run.id, runtime_kind = run.kind, mode_name = mode_name }, check_mode, mode_name)
  end
  local found
  if ok and not run.gone then
    found, reason = traced(self, run, "runtime.await_session_open",
      { run_id = run.id, runtime_kind = run.kind, session_id = run.session_id }, await_session, cond)
  end
  if self.waiting[run.session_id] == cond then self.waiting[run.session_id] = nil end
  self.waiting_count = self.waiting_count - 1
  if reason and reason.code == "CANCELLED" then return nil, reason end
  if run.gone or run:has_ended() or run.session then return true end
  if found == nil then
    ending.fail(run, reason.code, reason.message)
    return true
  end
  self:attach(run, found.metadata, { asked = found.asked })
  return true
end

return M
