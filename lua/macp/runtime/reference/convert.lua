-- One session of macp-runtime as records of this journal. What that log does not record is taken from where the
-- protocol has it: the deadline from the start's timestamp, the policy from the snapshot.

local crypto = require("host.crypto")

local envelope_rules = require("macp.protocol.envelope")
local json = require("macp.core.json")
local lifecycle = require("macp.protocol.lifecycle")
local messages = require("macp.protocol.messages")
local records = require("macp.runtime.records")
local starts = require("macp.runtime.starts")

local KINDS = { Incoming = true, Internal = true, Checkpoint = true }
local STATES = {
  Open = lifecycle.OPEN, Suspended = lifecycle.SUSPENDED, Resolved = lifecycle.RESOLVED,
  Expired = lifecycle.EXPIRED, Cancelled = lifecycle.CANCELLED,
}
local TRANSITIONS = { TtlExpired = true, SessionCancel = true, SessionSuspend = true, SessionResume = true }
local ENTRY = { -- member -> type, and whether it must be there
  message_id = { "string", true }, received_at_ms = { "number", true }, sender = { "string", true },
  message_type = { "string", true }, entry_kind = { "string", true }, session_id = { "string" }, mode = { "string" },
  macp_version = { "string" }, timestamp_unix_ms = { "number" }, bound_mode_version = { "string" },
  bound_max_suspend_ms = { "number" }, bound_ttl_expiry_ms = { "number" }, bound_policy = { "table" },
}
local ENTRY_ORDER = { "message_id", "received_at_ms", "sender", "message_type", "entry_kind", "session_id", "mode",
  "macp_version", "timestamp_unix_ms", "bound_mode_version", "bound_max_suspend_ms", "bound_ttl_expiry_ms",
  "bound_policy" }
local DEFAULT_POLICY = "policy.default"

local M = { STATES = STATES }

local function fail(where, text, ...) error({ import = where .. ": " .. string.format(text, ...) }, 0) end

-- JSON integers 0 to 255 as bytes.
local function bytes_of(list, where, member)
  if list == nil then return "" end
  if type(list) ~= "table" then fail(where, "%s: an array of bytes expected", member) end
  local parts = {}
  for i, byte in ipairs(list) do
    if type(byte) ~= "number" or byte < 0 or byte > 255 or byte % 1 ~= 0 then
      fail(where, "%s[%d]: an integer from 0 to 255 expected", member, i)
    end
    parts[i] = string.char(byte)
  end
  return table.concat(parts)
end

local function payload_of(entry)
  if json.absent(entry.raw_payload_b64) ~= nil then
    local bytes = type(entry.raw_payload_b64) == "string" and crypto.base64_decode(entry.raw_payload_b64)
    if not bytes then fail(entry.where, "raw_payload_b64: base64 expected") end
    return bytes
  end
  if json.absent(entry.raw_payload) == nil then fail(entry.where, "raw_payload: missing") end
  return bytes_of(entry.raw_payload, entry.where, "raw_payload")
end

local function check_entry(entry, id)
  for _, member in ipairs(ENTRY_ORDER) do
    local rule, value = ENTRY[member], json.absent(entry[member])
    entry[member] = value
    if value == nil and rule[2] then fail(entry.where, "%s: missing", member) end
    if value ~= nil and type(value) ~= rule[1] then fail(entry.where, "%s: a %s expected", member, rule[1]) end
  end
  if not KINDS[entry.entry_kind] then fail(entry.where, "entry_kind: unknown %q", entry.entry_kind) end
  if entry.session_id and entry.session_id ~= "" and entry.session_id ~= id then
    fail(entry.where, "session_id: %q in the log of %q", entry.session_id, id)
  end
end

-- The policy a session is bound to, as it is recorded. It comes from what was stored, never from a registry.
local function binding_of(definition, version, where)
  if version == "" then version = DEFAULT_POLICY end
  if definition == nil then
    if version ~= DEFAULT_POLICY then fail(where, "the definition of policy %q is not stored", version) end
    return { policy_id = version, mode = "*", description = "", rules = "{}", schema_version = 1 }
  end
  local rules = json.absent(definition.rules)
  if type(rules) ~= "table" or json.is_array(rules) and rules[1] ~= nil then
    fail(where, "the rules of policy %q are no JSON object", version)
  end
  return {
    policy_id = tostring(definition.policy_id or version), mode = tostring(definition.mode or "*"),
    description = tostring(json.absent(definition.description) or ""),
    rules = json.canonical(next(rules) == nil and json.object({}) or rules),
    schema_version = tonumber(definition.schema_version) or 1,
  }
end

-- The bindings of a start. The mode must be here, in the version that is bound.
local function bindings_of(ctx, entry, payload, definition)
  local version = payload.mode_version
  if version == "" then version = entry.bound_mode_version or "" end
  local rev = ctx.modes:get(entry.mode, version ~= "" and version or nil)
  if rev == nil then fail(entry.where, "mode %q version %q is not here", entry.mode, version) end
  local base = entry.timestamp_unix_ms and entry.timestamp_unix_ms > 0 and entry.timestamp_unix_ms
    or entry.received_at_ms
  local cap = entry.bound_max_suspend_ms or (payload.max_suspend_ms > 0 and payload.max_suspend_ms)
    or starts.DEFAULT_MAX_SUSPEND_MS
  return {
    mode_version = rev.version, mode_revision = rev.hash, max_suspend_ms = cap,
    expires_at_ms = entry.bound_ttl_expiry_ms or base + payload.ttl_ms,
    policy = binding_of(definition, payload.policy_version, entry.where),
    descriptor = rev.model and rev.model.template,
  }
end

local function envelope_of(entry, id, mode)
  local version, at = entry.macp_version or "", entry.timestamp_unix_ms or 0
  return {
    macp_version = version ~= "" and version or "1.0", mode = entry.mode ~= "" and entry.mode or mode,
    message_type = entry.message_type, message_id = entry.message_id, session_id = id, sender = entry.sender,
    timestamp_unix_ms = at ~= 0 and at or entry.received_at_ms, payload = payload_of(entry),
  }
end

local function start_record(ctx, entry, id, definition)
  if entry.mode == nil or entry.mode == "" then fail(entry.where, "the SessionStart names no mode") end
  local envelope = envelope_of(entry, id)
  local payload, err = ctx.start_codec:decode(envelope.payload)
  if payload == nil then fail(entry.where, "the SessionStart does not decode: %s", err.message) end
  local bindings = bindings_of(ctx, entry, payload, definition)
  return records.frame(envelope) .. records.marked_tail({
    received_at_ms = entry.received_at_ms, state = lifecycle.OPEN, bindings = bindings,
  }), bindings.max_suspend_ms
end

-- Follows the state as the entries change it: a record says which state it leads to.
local Life = {}
Life.__index = Life

function Life:internal(entry)
  local at, kind = entry.received_at_ms, entry.message_type
  if kind == "TtlExpired" then self.state = lifecycle.EXPIRED end
  if kind == "SessionCancel" then self.state = lifecycle.CANCELLED end
  if kind == "SessionSuspend" then self.state, self.since = lifecycle.SUSPENDED, at end
  if kind == "SessionResume" then
    self.total = self.total + math.max(0, at - (self.since or at))
    self.state = self.total > self.cap and lifecycle.EXPIRED or lifecycle.OPEN
  end
end

-- The records of a history that begins with its start.
local function from_entries(ctx, entries, id, definition)
  local first = entries[1]
  if first.message_type ~= "SessionStart" then fail(first.where, "the log does not begin with a SessionStart") end
  local start, cap = start_record(ctx, first, id, first.bound_policy or definition)
  local list = { start }
  local life = setmetatable({ state = lifecycle.OPEN, total = 0, cap = cap }, Life)
  for i = 2, #entries do
    local entry = entries[i]
    if entry.entry_kind == "Incoming" then
      if entry.message_type == "SessionStart" then fail(entry.where, "a second SessionStart") end
      local resolves = entry.message_type == "Commitment" and life.state == lifecycle.OPEN
      local frame = records.frame(envelope_of(entry, id, first.mode))
      if resolves then life.state = lifecycle.RESOLVED end
      list[i] = frame .. (resolves and records.marked_tail({ received_at_ms = entry.received_at_ms,
        state = lifecycle.RESOLVED }) or records.incoming_tail(entry.received_at_ms))
    else
      life:internal(entry)
      list[i] = records.internal({ id = id, mode = first.mode }, entry.message_type, entry.received_at_ms, life.state,
        payload_of(entry))
    end
  end
  return list
end

-- A finished session of which only a snapshot is left: the envelopes are gone, facts and ids are not.
local function from_snapshot(ctx, snapshot, id, ended_at, where)
  local state = STATES[snapshot.state]
  if state == nil or not lifecycle.is_terminal(state) then
    fail(where, "the log was compacted, but the session is %s", tostring(snapshot.state))
  end
  local function text(member) return tostring(json.absent(snapshot[member]) or "") end
  local extensions, roots = {}, {}
  for key, value in pairs(json.absent(snapshot.extensions) or {}) do
    extensions[key] = bytes_of(value, where, "extensions." .. key)
  end
  for i, root in ipairs(json.absent(snapshot.roots) or {}) do
    roots[i] = { uri = tostring(root.uri or ""), name = tostring(root.name or "") }
  end
  local started_at, ttl = tonumber(snapshot.started_at_unix_ms), tonumber(json.absent(snapshot.ttl_ms)) or 0
  if started_at == nil or tonumber(snapshot.ttl_expiry) == nil then
    fail(where, "started_at_unix_ms and ttl_expiry: numbers expected")
  end
  if ttl == 0 then ttl = snapshot.ttl_expiry - started_at end
  local payload = {
    intent = text("intent"), participants = snapshot.participants or {}, mode_version = text("mode_version"),
    configuration_version = text("configuration_version"), policy_version = text("policy_version"), ttl_ms = ttl,
    roots = roots, context_id = text("context_id"), extensions = extensions,
    max_suspend_ms = tonumber(json.absent(snapshot.max_suspend_ms)) or 0,
  }
  local bytes, err = ctx.start_codec:encode(payload)
  if bytes == nil then fail(where, "%s", err.message) end
  local start = start_record(ctx, {
    where = where, mode = text("mode"), message_id = "", sender = text("initiator_sender"), received_at_ms = started_at,
    message_type = "SessionStart", raw_payload_b64 = crypto.base64_encode(bytes),
    bound_ttl_expiry_ms = snapshot.ttl_expiry,
  }, id, json.absent(snapshot.policy_definition))
  local ids, times, activity = snapshot.seen_message_ids or {}, {}, {}
  for i in ipairs(ids) do times[i] = ended_at end
  for i, entry in ipairs(json.absent(snapshot.participant_activity) or {}) do
    activity[i] = { sender = entry.participant_id, count = entry.message_count,
      last_seen_ms = entry.last_message_at_unix_ms }
  end
  return { start, records.ids(ids, times, ended_at), records.summary({
    state = state, ended_at_ms = ended_at, expires_at_ms = snapshot.ttl_expiry,
    suspended_ms = tonumber(json.absent(snapshot.accumulated_suspended_ms)) or 0, suspensions = 0, ordinals = #ids,
    activity = activity, skips = {}, is_dropped = true,
  }) }
end

-- The snapshot inside a checkpoint entry.
local function checkpoint_of(entry)
  local snapshot, err = json.decode(payload_of(entry))
  if type(snapshot) ~= "table" then
    fail(entry.where, "the checkpoint does not decode: %s", err and err.message or "an object expected")
  end
  return snapshot
end

local function convert(ctx, id, entries, snapshot)
  if not envelope_rules.is_session_id(id) then fail(id, "this is no session id") end
  local history, checkpoint = {}, nil
  for _, entry in ipairs(entries) do
    check_entry(entry, id)
    local is_history = entry.entry_kind == "Incoming" or TRANSITIONS[entry.message_type]
    if entry.entry_kind == "Checkpoint" then
      checkpoint = entry
    elseif is_history then
      history[#history + 1] = entry
    end
  end
  if history[1] == nil and checkpoint then
    return from_snapshot(ctx, checkpoint_of(checkpoint), id, checkpoint.received_at_ms, checkpoint.where)
  end
  local source = checkpoint and checkpoint_of(checkpoint) or snapshot
  local definition = source and json.absent(source.policy_definition) or nil
  return from_entries(ctx, history, id, definition)
end

---Converts a session.
---@param ctx { modes: table }
---@param id string
---@param entries table[] at least one
---@param snapshot table|nil decoded session.json
---@return string[]|nil records, string? problem
function M.convert(ctx, id, entries, snapshot)
  ctx.start_codec = ctx.start_codec or messages.codec("macp.v1.SessionStartPayload")
  local ok, result = pcall(convert, ctx, id, entries, snapshot)
  if ok then return result end
  if type(result) == "table" and result.import then return nil, result.import end
  error(result, 0)
end

return M
