-- Launch: a run that was announced (POST /runs) waits for its session to open, is bound to it, and is observed. When the
-- request asks for it, the launcher opens the session first.

local log = require("host.log")
local sys = require("host.sys")
local task = require("host.task")

local fault = require("macp.core.fault")
local json = require("macp.core.json")
local shared_answer = require("macp.core.shared_answer")
local binding = require("macp.plane.binding")
local ending = require("macp.plane.ending")
local lifecycle = require("macp.plane.lifecycle")
local session_polls = require("macp.plane.session_polls")
local standing = require("macp.plane.standing")

local HELLO_MS = 1000 -- how long it is believed that the runtime supports a mode

-- Refusals that a runtime tells by name in its words, under a status that says less.
local NAMED = {
  { "UNKNOWN_POLICY_VERSION", "UNKNOWN_POLICY_VERSION" }, { "INVALID_POLICY_DEFINITION", "INVALID_POLICY_DEFINITION" },
  { "POLICY_DENIED", "POLICY_DENIED" }, { "SESSION_ALREADY_EXISTS", "SESSION_ALREADY_EXISTS" },
  { "SessionAlreadyExists", "SESSION_ALREADY_EXISTS" },
}

---@class macp.plane.Launcher
---@field polls macp.plane.SessionPolls
local Launcher = {}
Launcher.__index = Launcher

local M = {}

local function supports(hello, mode_name)
  local modes = hello.supported_modes or {}
  if #modes == 0 then return true end
  for _, name in ipairs(modes) do
    if name == mode_name then return true end
  end
  return false
end

local function code_of(reason)
  for _, named in ipairs(NAMED) do
    if reason.code ~= "KICKOFF_FAILED" and reason.message:find(named[1], 1, true) then return named[2] end
  end
  return reason.code
end

-- The launch of a run has failed.
local function fail(run, reason) ending.fail(run, code_of(reason), reason.message) end

local function is_known_to_support(self, mode_name)
  return self.hello ~= nil and sys.mono_ms() < self.hello_until and supports(self.hello, mode_name)
end

-- The runtime must know the mode before it is worth waiting. That it does not is asked each time. (yields)
local function check_mode(self, mode_name)
  if is_known_to_support(self, mode_name) then return true end
  local hello, err = self.hellos:get("", function() return self.client:initialize() end)
  if hello == nil then
    if session_polls.RETRY[err.code] then return true end
    return nil, { code = err.code, message = tostring(err.message) }
  end
  self.hello, self.hello_until = hello, sys.mono_ms() + HELLO_MS
  if supports(hello, mode_name) then return true end
  return nil, { code = "MODE_NOT_SUPPORTED", message = "the runtime does not support " .. mode_name }
end

---@param opts { client: table, registry: table|nil, owner: table, opening: macp.plane.Opening, poll_base_ms: integer,
---  poll_max_ms: integer, poll_timeout_ms: integer, observe: fun(run: macp.plane.Run), supervisor: table,
---  questions: macp.plane.Questions, tracer: macp.Tracer|nil }
function M.new(opts)
  local self = setmetatable({
    client = opts.client, registry = opts.registry, owner = opts.owner, opening = opts.opening,
    observe = opts.observe, questions = opts.questions, tracer = opts.tracer, supervisor = opts.supervisor,
    hellos = shared_answer.new(1), hello = nil, hello_until = 0,
  }, Launcher)
  self.polls = session_polls.new({
    client = opts.client, supervisor = opts.supervisor, tracer = opts.tracer,
    base_ms = opts.poll_base_ms, max_ms = opts.poll_max_ms, timeout_ms = opts.poll_timeout_ms,
    begin = function(waiting, mode_name) return self:begin(waiting, mode_name) end,
    check = function(_, mode_name) return check_mode(self, mode_name) end,
    found = function(waiting, metadata, asked)
      local run = self.owner:whole(waiting)
      if run then self:attach(run, metadata, { asked = asked }) end
    end,
    failed = function(waiting, reason)
      local run = self.owner:whole(waiting)
      if run then fail(run, reason) end
    end,
  })
  return self
end

---Binds a run to a session that exists and starts to observe it. (yields)
---@param metadata table SessionMetadata
---@param order { asked: integer|nil, at_ms: integer|nil, state: string|nil } of binding.told
function Launcher:attach(run, metadata, order)
  local session, rev = binding.prepare(self.client, self.registry, metadata)
  if run.gone or run:has_ended() or run.session then return false end
  if run.status == "queued" then lifecycle.starting(run, session.mode_name) end
  if self.hello and self.hello.capabilities then session.capabilities = json.encode(self.hello.capabilities) end
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

-- Opens the session of a run, which then waits for it like any other. (yields)
local function open(self, run, request)
  task.set_scope(run.scope)
  local ok, reason = self.opening:open(run, request)
  if run.gone or run:has_ended() or run.session then return true end
  if ok then
    self.polls:wait(run, request.session.modeName)
  elseif reason.code == "CANCELLED" then
    return nil, reason
  else
    fail(run, reason)
  end
  return true
end

---The launch of a run begins, unless it did before. (yields while its batch is full)
---@param run macp.plane.Run|macp.plane.Announced
---@return true|nil
---@return table|nil err CANCELLED
function Launcher:begin(run, mode_name)
  if (run.became or run).status ~= "queued" then return true end
  local writer = self.owner.writers:of(run.id)
  local ok, err = writer:wait_room()
  if not ok then return nil, err end
  run = run.became or run
  if run.gone or run.status ~= "queued" then return true end
  if run.start then run:start(writer) else lifecycle.starting(run, mode_name) end
  return true
end

---From queued (or starting, after a restart) to observed, or to failed.
---@param run macp.plane.Run|macp.plane.Announced
---@param request table the checked request, or what is kept of it
---@param is_absent boolean|nil the runtime cannot know the session yet, or would have told of it
function Launcher:launch(run, request, is_absent)
  local mode_name = request.session.modeName
  if self.opening:is_wanted(request) then
    run = self.owner:whole(run)
    if run.status == "queued" then lifecycle.starting(run, mode_name) end
    self.supervisor:start("launch." .. run.id, function() return open(self, run, request) end, { restart = "never" })
    return
  end
  local is_checked = run.span == nil and is_known_to_support(self, mode_name)
  self.polls:wait(run, mode_name, { is_checked = is_checked, is_absent = is_absent })
end

return M
