-- Cancel, suspend and resume: what the initiator, or whoever the policy gives authority, does to a session as a whole.
-- Each is one internal record. None yields; callers wait for the record.

local kernel_rules = require("macp.runtime.kernel")
local lifecycle = require("macp.protocol.lifecycle")
local participant_rules = require("macp.protocol.participants")
local records = require("macp.runtime.records")
local session_record = require("macp.runtime.session")

local refuse = kernel_rules.refuse

local M = {}

---Whether the caller may cancel, suspend or resume the session.
function M.has_authority(session, identity)
  if identity.sender == session.initiator then return true end
  local function is_participant(sender) return session.is_participant[sender] == true end
  return participant_rules.has_authority(session.policy.rules, session.initiator, is_participant, identity.sender)
end

-- Appends an internal record and does its books.
local function record(kernel, session, message_type, at, payload, event_type)
  local event = kernel.events:lifecycle(session, event_type, at)
  local bytes = records.internal(session, message_type, at, session.state, payload)
  session.last_at = at
  local lsn, err = kernel.log:append(session, bytes, event)
  if lsn == nil then return refuse("INTERNAL_ERROR", err.message) end
  session_record.skip(session, session.index)
  if lifecycle.is_terminal(session.state) then
    kernel_rules.release(kernel, session)
  else
    kernel.sessions:settle(session)
  end
  return true
end

local function begin(kernel, session)
  local at = kernel_rules.acceptance_time(kernel, session)
  local ok, code, reason = kernel:observe(session, at)
  if not ok then return nil, code, reason end
  return at
end

local function not_open(session)
  local name = session.state == lifecycle.EXPIRED and "TtlExpired" or nil
  return refuse("SESSION_NOT_OPEN", lifecycle.NAMES[session.state], name)
end

---Ends a session for good. A session that has ended already is left as it is.
---@return macp.runtime.Verdict|nil, string? code, string? reason
function M.cancel(kernel, session, identity, reason)
  local at, code, text = begin(kernel, session)
  if at == nil then return nil, code, text end
  if not lifecycle.is_terminal(session.state) then
    session_record.finish(session, lifecycle.CANCELLED, at)
    local ok
    ok, code, text = record(kernel, session, "SessionCancel", at,
      { reason = reason, cancelled_by = identity.sender }, lifecycle.EVENT.CANCELLED)
    if not ok then return nil, code, text end
    kernel.metrics:transition("cancelled", session)
  end
  return kernel_rules.accepted(kernel, session, at, false)
end

---Stops the session's clock.
function M.suspend(kernel, session, identity, reason)
  local at, code, text = begin(kernel, session)
  if at == nil then return nil, code, text end
  if session.state ~= lifecycle.OPEN then return not_open(session) end
  if session.suspensions >= session_record.MAX_SUSPENSIONS then
    return refuse("SESSION_NOT_OPEN", "the session was suspended 1024 times already")
  end
  session_record.suspend(session, at)
  local ok
  ok, code, text = record(kernel, session, "SessionSuspend", at,
    { reason = reason, suspended_by = identity.sender }, lifecycle.EVENT.SUSPENDED)
  if not ok then return nil, code, text end
  kernel.metrics:transition("suspended", session)
  return kernel_rules.accepted(kernel, session, at, false)
end

---Lets the clock run again; the deadline moves by the suspension. Past the cap the session expires instead.
function M.resume(kernel, session, identity, reason)
  local at, code, text = begin(kernel, session)
  if at == nil then return nil, code, text end
  if session.state ~= lifecycle.SUSPENDED then return not_open(session) end
  local banked = session_record.resume(session, at)
  local has_expired = session.state == lifecycle.EXPIRED
  local ok
  ok, code, text = record(kernel, session, "SessionResume", at,
    { reason = reason, resumed_by = identity.sender, banked_ms = banked },
    has_expired and lifecycle.EVENT.EXPIRED or lifecycle.EVENT.RESUMED)
  if not ok then return nil, code, text end
  kernel.metrics:transition(has_expired and "expired" or "resumed", session)
  if has_expired then return refuse("SESSION_NOT_OPEN", "the suspension was too long", "TtlExpired") end
  return kernel_rules.accepted(kernel, session, at, false)
end

return M
