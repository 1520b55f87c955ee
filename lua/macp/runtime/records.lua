-- Journal records: how a session's history is written and read back. See proto/macp/internal/v1/journal.proto.
-- The head of a record is a StreamSessionResponse; frames are cut out of records without decoding them.

local json = require("macp.core.json")

local messages = require("macp.protocol.messages")

local byte, sub = string.byte, string.sub

local INCOMING, INTERNAL, CHECKPOINT, SUMMARY, IDS = 1, 2, 3, 4, 5
local FRAME_TAG = 0x0a -- field 1, length-delimited
local RUNTIME_SENDER = "_runtime"

local M = {
  INCOMING = INCOMING, INTERNAL = INTERNAL, CHECKPOINT = CHECKPOINT, SUMMARY = SUMMARY, IDS = IDS,
  RUNTIME_SENDER = RUNTIME_SENDER,
}

local record_codec, frame_codec, ended_codec, payload_codecs

local function codecs()
  record_codec = messages.codec("macp.internal.v1.Record", { enums = "number" })
  frame_codec = messages.codec("macp.v1.StreamSessionResponse", { enums = "number" })
  ended_codec = messages.codec("macp.internal.v1.Ended")
  payload_codecs = {
    SessionCancel = messages.codec("macp.v1.SessionCancelPayload"),
    SessionSuspend = messages.codec("macp.v1.SessionSuspendPayload"),
    SessionResume = messages.codec("macp.v1.SessionResumePayload"),
  }
end

local function encode_record(fields)
  if record_codec == nil then codecs() end
  return assert(record_codec:encode(fields))
end

local FRAME = {}

---The bytes subscribers receive for an envelope: a StreamSessionResponse, at the same time the head of its record.
---@param envelope table all fields final
function M.frame(envelope)
  if frame_codec == nil then codecs() end
  FRAME.envelope = envelope
  local frame, err = frame_codec:encode(FRAME)
  FRAME.envelope = nil
  return frame, err
end

-- Most messages of one millisecond have the same tail.
local tail_at, tail

---What follows the frame in the record of an ordinary accepted message.
---@param at integer acceptance time
function M.incoming_tail(at)
  if tail_at ~= at then
    tail_at, tail = at, encode_record({ kind = INCOMING, received_at_ms = at })
  end
  return tail
end

---What follows the frame in the record of an accepted message that starts or ends a session, or comes from a timer.
---@param fields { received_at_ms: integer, state?: integer, synthetic?: boolean, bindings?: table,
---  mode_state_hash?: string, resolution?: string }
function M.marked_tail(fields)
  fields.kind = INCOMING
  return encode_record(fields)
end

---What a SessionStart binds, for the record.
function M.bindings(rev, policy, expires_at, max_suspend_ms)
  return {
    mode_version = rev.version,
    mode_revision = rev.hash,
    policy = {
      policy_id = policy.policy_id, mode = policy.mode, description = policy.description,
      rules = policy.rules_json, schema_version = policy.schema_version,
    },
    expires_at_ms = expires_at,
    max_suspend_ms = max_suspend_ms,
    descriptor = rev.model and rev.model.template,
  }
end

---A record the runtime writes on its own behalf: no ordinal, no message id, never streamed.
---@param session table
---@param message_type string "TtlExpired", "SessionCancel", "SessionSuspend" or "SessionResume"
---@param at integer
---@param state integer the state it leads to
---@param payload? table|string or its bytes
function M.internal(session, message_type, at, state, payload)
  if record_codec == nil then codecs() end
  return encode_record({
    kind = INTERNAL, received_at_ms = at, state = state,
    annotation = {
      macp_version = "1.0", mode = session.mode, message_type = message_type, session_id = session.id,
      sender = RUNTIME_SENDER, timestamp_unix_ms = at,
      payload = type(payload) == "string" and payload
        or payload and assert(payload_codecs[message_type]:encode(payload)) or "",
    },
  })
end

---One part of a checkpoint.
---@param fields { received_at_ms: integer, mode_state: string, mode_state_hash?: string, coverage?: table }
function M.checkpoint(fields)
  fields.kind = CHECKPOINT
  return encode_record(fields)
end

---The last record of a finished session.
---@param fields table macp.internal.v1.Summary
function M.summary(fields)
  return encode_record({ kind = SUMMARY, received_at_ms = fields.ended_at_ms, state = fields.state, summary = fields })
end

---Ids whose records are dropped, with the times of their acceptance.
function M.ids(ids, times, at)
  return encode_record({ kind = IDS, received_at_ms = at, ids = { ids = ids, accepted_at_ms = times } })
end

---An entry of the index of finished sessions.
---@param fields { session_id?: string, started_at_ms?: integer, ended_at_ms?: integer, records?: integer,
---  collected?: integer }
function M.ended(fields)
  if ended_codec == nil then codecs() end
  return assert(ended_codec:encode(fields))
end

---An entry of that index as a table, or nil, err.
function M.decode_ended(bytes)
  if ended_codec == nil then codecs() end
  return ended_codec:decode(bytes)
end

---A record as a table, or nil, err.
function M.decode(bytes)
  if record_codec == nil then codecs() end
  return record_codec:decode(bytes)
end

---The frame at the head of a record of accepted history; nil for other records.
---@param bytes string
---@return string|nil
function M.frame_of(bytes)
  if byte(bytes, 1) ~= FRAME_TAG then return nil end
  local length, shift, at = 0, 1, 2
  repeat
    local b = byte(bytes, at)
    if b == nil then return nil end
    length, shift, at = length + (b % 128) * shift, shift * 128, at + 1
  until b < 128
  return sub(bytes, 1, at + length - 1)
end

-- Stands for a policy that cannot be evaluated any more: the session goes on, and nobody can commit in it.
local function lost_policy(policy_id, problem)
  return {
    policy_id = policy_id, mode = "*", description = "", rules = {}, rules_json = "{}", schema_version = 0,
    problem = problem,
  }
end

---A stored policy binding as the registry's own shape. One that is missing or cannot be read becomes a policy that
---refuses every commitment: governance is never lost silently.
---@param binding table|nil macp.internal.v1.PolicyBinding
---@param policy_version string what the SessionStart asked for
function M.policy_of(binding, policy_version)
  if binding == nil then
    return lost_policy(policy_version, string.format(
      "the history does not hold the policy %q that the session was started with", policy_version))
  end
  local rules, err = json.decode(binding.rules == "" and "{}" or binding.rules)
  if type(rules) ~= "table" or json.is_array(rules) then
    return lost_policy(binding.policy_id, string.format("the rules of the policy %q, as they are recorded, are no JSON "
      .. "object: %s", binding.policy_id, err and err.message or "they are something else"))
  end
  return {
    policy_id = binding.policy_id, mode = binding.mode, description = binding.description,
    rules = rules, rules_json = binding.rules, schema_version = binding.schema_version,
  }
end

return M
