-- Envelopes and the payloads that belong to no single mode.

local crypto = require("host.crypto")
local sys = require("host.sys")

local messages = require("macp.protocol.messages")
local codes = require("macp.protocol.codes")
local sdk_errors = require("macp.sdk.errors")

local NEGATIVE_ENDINGS = { "rejected", "failed", "declined" }

local M = {
  DEFAULT_MODE_VERSION = "1.0.0",
  DEFAULT_CONFIGURATION_VERSION = "config.default",
  DEFAULT_POLICY_VERSION = "policy.default",
}

---A fresh id for a session, a message or a commitment.
function M.new_id() return crypto.uuid4() end

---Whether an action's name says that the outcome is positive.
function M.infer_outcome_positive(action)
  local lower = action:lower()
  for _, ending in ipairs(NEGATIVE_ENDINGS) do
    if lower:sub(-#ending) == ending then return false end
  end
  return true
end

---An Envelope with everything filled in.
---@param fields { mode: string, message_type: string, session_id: string, payload: string, sender: string|nil, message_id: string|nil, timestamp_unix_ms: integer|nil }
function M.envelope(fields)
  return {
    macp_version = codes.VERSION,
    mode = fields.mode or "",
    message_type = fields.message_type,
    message_id = fields.message_id or M.new_id(),
    session_id = fields.session_id or "",
    sender = fields.sender or "",
    timestamp_unix_ms = fields.timestamp_unix_ms or sys.now_ms(),
    payload = fields.payload or "",
  }
end

---Bytes of a message by its full name; raises MacpSessionError with the field that does not fit.
function M.encode(type_name, value)
  local bytes, err = messages.codec(type_name):encode(value)
  if not bytes then sdk_errors.raise("MacpSessionError", type_name .. ": " .. err.message) end
  return bytes
end

---Payload of SessionStart; versions default to the protocol's defaults. policy_version "" is sent as it is.
function M.session_start(start)
  return M.encode("macp.v1.SessionStartPayload", {
    intent = start.intent,
    participants = start.participants or {},
    mode_version = start.mode_version or M.DEFAULT_MODE_VERSION,
    configuration_version = start.configuration_version or M.DEFAULT_CONFIGURATION_VERSION,
    policy_version = start.policy_version or M.DEFAULT_POLICY_VERSION,
    ttl_ms = start.ttl_ms,
    max_suspend_ms = start.max_suspend_ms or 0,
    roots = start.roots or {},
    context_id = start.context_id or "",
    extensions = start.extensions or {},
  })
end

---Payload of Commitment; the polarity is inferred from the action unless given.
function M.commitment(commitment)
  local positive = commitment.outcome_positive
  if positive == nil then positive = M.infer_outcome_positive(commitment.action) end
  return M.encode("macp.v1.CommitmentPayload", {
    commitment_id = commitment.commitment_id or M.new_id(),
    action = commitment.action,
    authority_scope = commitment.authority_scope,
    reason = commitment.reason,
    mode_version = commitment.mode_version or M.DEFAULT_MODE_VERSION,
    policy_version = commitment.policy_version or M.DEFAULT_POLICY_VERSION,
    configuration_version = commitment.configuration_version or M.DEFAULT_CONFIGURATION_VERSION,
    outcome_positive = positive,
    supersedes = commitment.supersedes,
  })
end

---Payload of an ambient Signal.
function M.signal(signal)
  return M.encode("macp.v1.SignalPayload", {
    signal_type = signal.signal_type, data = signal.data or "", confidence = signal.confidence or 0,
    correlation_session_id = signal.correlation_session_id or "",
  })
end

---Payload of Progress.
function M.progress(progress)
  return M.encode("macp.v1.ProgressPayload", {
    progress_token = progress.progress_token, progress = progress.progress, total = progress.total,
    message = progress.message or "", target_message_id = progress.target_message_id or "",
  })
end

return M
