-- Signals and progress: broadcast to whoever watches, never part of a history, never touching a session.

local kernel_rules = require("macp.runtime.kernel")
local messages = require("macp.protocol.messages")
local records = require("macp.runtime.records")
local white_space = require("macp.protocol.white_space")

local refuse = kernel_rules.refuse

local M = {}

local signal_codec, progress_codec

local function check_payload(envelope)
  if envelope.payload == "" then return true end
  signal_codec = signal_codec or messages.codec("macp.v1.SignalPayload")
  progress_codec = progress_codec or messages.codec("macp.v1.ProgressPayload")
  local is_signal = envelope.message_type == "Signal"
  local payload, err = (is_signal and signal_codec or progress_codec):decode(envelope.payload)
  if payload == nil then return refuse("INVALID_ENVELOPE", err.message, "InvalidPayload") end
  if is_signal and white_space.is_blank(payload.signal_type) then
    return refuse("INVALID_ENVELOPE", "signal_type is blank", "InvalidPayload")
  end
  return true
end

---Judges a Signal or Progress. The frame is for WatchSignals: a WatchSignalsResponse and a StreamSessionResponse with
---an envelope are the same bytes.
---@param session table|nil the session a Progress names
---@return string|nil frame, string? code, string? reason
function M.judge(session, identity, envelope, now)
  local ok, code, reason = check_payload(envelope)
  if not ok then return nil, code, reason end
  if envelope.session_id ~= "" then
    if session == nil then return refuse("SESSION_NOT_FOUND", "no session has this id") end
    if identity.sender ~= session.initiator and not session.is_participant[identity.sender] then
      return refuse("FORBIDDEN", "the sender does not take part in the session")
    end
  end
  if envelope.timestamp_unix_ms == 0 then envelope.timestamp_unix_ms = now end
  return records.frame(envelope)
end

return M
