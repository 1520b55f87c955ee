-- A record of a history as a line of the reference runtime's log: JSON with the members it reads, in its order, and
-- ours behind them. See `macp sessions export`.

local crypto = require("host.crypto")

local json = require("macp.core.json")
local records = require("macp.runtime.records")

local SEMANTICS_REVISION = 1

local M = {}

-- Members in order, each already JSON.
local Line = {}
Line.__index = Line

function Line:add(name, value)
  self[#self + 1] = json.encode(name) .. ":" .. (value == nil and "null" or json.encode(value))
end

function Line:add_payload(bytes, is_compat)
  if not is_compat then return self:add("raw_payload_b64", crypto.base64_encode(bytes)) end
  local numbers = {}
  for i = 1, #bytes do numbers[i] = string.byte(bytes, i) end
  self[#self + 1] = '"raw_payload":[' .. table.concat(numbers, ",") .. "]"
end

local function bound_policy(policy)
  return { policy_id = policy.policy_id, mode = policy.mode, description = policy.description, rules = policy.rules,
    schema_version = policy.schema_version }
end

-- The checksum covers the line without itself.
local function close(line)
  local text = table.concat(line, ",")
  local whole = "{" .. text .. "}"
  return string.format('{%s,"crc32c":"%08x"}', text, crypto.crc32c(whole))
end

---The line of a record; nil for records that the reference's log has no entry for (checkpoints, summaries).
---@param record table decoded
---@param session table of runtime.history, this record included
---@param opts { compat: boolean } payloads as arrays of integers
---@return string|nil
function M.line(record, session, opts)
  local envelope, is_incoming = record.envelope, record.kind == records.INCOMING
  if record.kind == records.INTERNAL then envelope = record.annotation end
  if envelope == nil then return nil end
  local is_start = is_incoming and envelope.message_type == "SessionStart"
  local line = setmetatable({}, Line)
  line:add("message_id", envelope.message_id)
  line:add("received_at_ms", record.received_at_ms)
  line:add("sender", envelope.sender)
  line:add("message_type", envelope.message_type)
  line:add_payload(envelope.payload, opts.compat)
  line:add("entry_kind", is_incoming and "Incoming" or "Internal")
  line:add("session_id", session.id)
  line:add("mode", session.mode)
  line:add("macp_version", envelope.macp_version)
  line:add("timestamp_unix_ms", envelope.timestamp_unix_ms)
  local names_version = not is_start or session.payload.mode_version ~= ""
  line:add("bound_mode_version", not names_version and session.mode_version or nil)
  line:add("semantics_rev", is_start and SEMANTICS_REVISION or 0)
  line:add("bound_max_suspend_ms", is_start and session.max_suspend_ms or nil)
  line:add("compacted_incoming_ordinals", 0)
  if is_start then
    line:add("bound_ttl_expiry_ms", record.bindings.expires_at_ms)
    line:add("bound_mode_revision", record.bindings.mode_revision)
    line:add("bound_policy", bound_policy(session.policy))
    if record.bindings.descriptor then line:add("bound_descriptor", record.bindings.descriptor) end
  end
  if record.synthetic then line:add("synthetic", true) end
  return close(line)
end

return M
