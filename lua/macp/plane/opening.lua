-- Opening a session for a run: the launcher sends, and every message becomes an event of the run. Done before the run is
-- bound, so that a process that takes the run over does all of it again; the runtime knows the messages by their ids.

local sys = require("host.sys")

local errors = require("macp.core.errors")
local fault = require("macp.core.fault")
local json = require("macp.core.json")
local execution_request = require("macp.plane.execution_request")
local run_module = require("macp.plane.run")
local text = require("macp.plane.text")

---@class macp.plane.Opening
local Opening = {}
Opening.__index = Opening

local M = {}

---@param launcher macp.Launcher|nil nil: this plane opens no sessions
function M.new(launcher)
  return setmetatable({ launcher = launcher }, Opening)
end

---Why a request cannot be launched here; nil when it can, or when it asks for nothing of the kind.
---@param body table a checked request
---@return macp.Error|nil VALIDATION_ERROR
function Opening:check(body)
  if body.mode == "replay" then
    return errors.new("VALIDATION_ERROR", nil, json.array({
      "mode must be live or sandbox: a finished run is replayed with POST /runs/:id/replay" }))
  end
  if not execution_request.is_launch(body) then return nil end
  if self.launcher == nil then
    return errors.new("VALIDATION_ERROR", nil, json.array({ "the request opens a session: "
      .. execution_request.NOT_SERVED }))
  end
  local zero = "00000000-0000-0000-0000-000000000000"
  local _, problems = self.launcher:plan(body, zero, zero)
  return problems and errors.new("VALIDATION_ERROR", nil, json.array(problems)) or nil
end

local function emit(run, event_type, item, extra)
  local data = { from = item.from, sender = item.sender, to = json.array(item.to), kind = item.kind,
    messageType = item.message_type, messageId = item.envelope.message_id, sessionId = run.session_id }
  for name, value in pairs(extra or {}) do data[name] = value end
  run:emit(sys.now_ms(), event_type, "message", data.messageId, run_module.source("macp-control-plane", "launcher"),
    text.told(data))
end

-- Sends the kickoffs in order until one fails. (yields)
local function send_kickoffs(self, run, plan)
  for _, item in ipairs(plan.kickoffs) do
    local ack, reason = self.launcher:send(item)
    fault("opening.kickoff_sent")
    if run.gone or run:has_ended() then return true end
    if ack == nil and reason.code == "CANCELLED" then return nil, reason end
    if ack == nil then
      emit(run, "message.send_failed", item, { errorCode = reason.code, errorMessage = reason.message })
      return nil, { code = "KICKOFF_FAILED", message = string.format("%s from %s was not sent: %s: %s",
        item.message_type, item.from, reason.code, reason.message) }
    end
    if not ack.duplicate then emit(run, "message.sent", item) end
  end
  return true
end

---Does a request ask for its session to be opened, and is that done here?
---@param body table|nil
function Opening:is_wanted(body)
  return self.launcher ~= nil and body ~= nil and execution_request.is_launch(body)
end

-- What participants are to the session, by the identity they send under.
local function roles_of(body)
  local roles = {}
  for _, participant in ipairs(body.session.participants) do
    roles[participant.transportIdentity or participant.id] = participant.role
  end
  return roles
end

---Opens the session that a run's request describes and sends its kickoff; does nothing for a request that only observes.
---(yields)
---@param run macp.plane.Run
---@param body table|nil the request as it is kept with the run
---@return boolean|nil ok
---@return { code: string, message: string }|nil reason why the run fails; code CANCELLED ends the task only
function Opening:open(run, body)
  if not self:is_wanted(body) then return true end
  run.roles = roles_of(body)
  local plan, problems = self.launcher:plan(body, run.id, run.session_id)
  if plan == nil then return nil, { code = "VALIDATION_ERROR", message = table.concat(problems, "; ") } end
  local ack, reason = self.launcher:send(plan.start)
  fault("opening.started")
  if ack == nil then return nil, reason end
  if run.gone or run:has_ended() then return true end
  return send_kickoffs(self, run, plan)
end

return M
