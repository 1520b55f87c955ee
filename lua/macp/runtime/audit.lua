-- What became of messages, as log lines: refusals that concern rights, repetitions, and, where the policy of a session
-- asks for it, every accepted message. A client that is refused all the time fills no disk: so many lines per second and
-- kind are written, the rest is counted. Payloads and credentials are never logged.

local log = require("host.log")

local LINES_PER_SECOND = 10
local SECOND_MS = 1000

-- Refusals that deserve a line of their own.
local REFUSALS = {
  POLICY_DENIED = "message.denied", FORBIDDEN = "message.forbidden", UNAUTHENTICATED = "message.forbidden",
  RATE_LIMITED = "message.limited",
}

local Audit = {}
Audit.__index = Audit

local M = { LINES_PER_SECOND = LINES_PER_SECOND }

---@param mono_ms fun(): number
function M.new(mono_ms) return setmetatable({ mono_ms = mono_ms, kinds = {} }, Audit) end

-- Whether one more line of a kind may be written now; and how many were not since the last one that was.
local function admit(self, event)
  local kind, now = self.kinds[event], self.mono_ms()
  if kind == nil then
    kind = { since = now, written = 0, suppressed = 0 }
    self.kinds[event] = kind
  elseif now - kind.since >= SECOND_MS then
    kind.since, kind.written = now, 0
  end
  if kind.written >= LINES_PER_SECOND then
    kind.suppressed = kind.suppressed + 1
    return false
  end
  local suppressed = kind.suppressed
  kind.written, kind.suppressed = kind.written + 1, 0
  return true, suppressed > 0 and suppressed or nil
end

local function fields_of(identity, envelope, suppressed)
  return {
    session_id = envelope.session_id, mode = envelope.mode, message_type = envelope.message_type,
    message_id = envelope.message_id, sender = identity.sender, suppressed = suppressed,
  }
end

---A message was refused.
---@param details macp.runtime.Details|nil
function Audit:refused(identity, envelope, code, text, details)
  local event = REFUSALS[code]
  if event == nil then return end
  local may, suppressed = admit(self, event)
  if not may then return end
  local fields = fields_of(identity, envelope, suppressed)
  fields.reason, fields.reasons = text, details and details.reasons
  log.warn(event, fields)
end

local function wants_info(session)
  local rules = session.policy.rules
  return type(rules.audit) == "table" and rules.audit.level == "info"
end

---A message was accepted, or was a repetition of one that was.
---@param verdict macp.runtime.Verdict
function Audit:accepted(identity, envelope, verdict)
  if verdict.duplicate then
    local may, suppressed = admit(self, "message.duplicate")
    if may then log.info("message.duplicate", fields_of(identity, envelope, suppressed)) end
    return
  end
  local session = verdict.session
  if session and wants_info(session) then
    log.info("message.accepted", fields_of(identity, envelope))
  elseif log.enabled("debug") then
    log.debug("message.accepted", fields_of(identity, envelope))
  end
end

return M
