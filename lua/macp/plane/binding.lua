-- Binding: what the runtime says about a session, in the form a run keeps it, and the mode revision that reads it.

local log = require("host.log")

local errors = require("macp.core.errors")
local json = require("macp.core.json")
local lifecycle = require("macp.protocol.lifecycle")
local text = require("macp.plane.text")

local DEFAULT_POLICY = "policy.default"
local MAX_TIME_MS = 253402300800000 -- the year 10000

-- Of every session that names no policy; shared, never changed.
local NO_RULES = { policy_id = DEFAULT_POLICY, mode = "*", rules = json.object({}), schema_version = 1 }

local M = {}

-- A time as the database can hold it; nil for what is none.
local function positive(value)
  value = tonumber(value)
  return value and value > 0 and value < MAX_TIME_MS and value or nil
end

local function session_policy(stored)
  if stored == nil or stored.policy_id == DEFAULT_POLICY then return NO_RULES end
  return stored
end

local WORDS = { "mode", "mode_version", "configuration_version", "policy_version", "initiator", "context_id" }
local LISTS = { "participants", "extension_keys" }

---Metadata as the database can hold it, changed in place: a NUL in a text becomes U+FFFD.
---@param metadata table decoded macp.v1.SessionMetadata
function M.storable(metadata)
  for _, name in ipairs(WORDS) do
    if metadata[name] then metadata[name] = text.storable(metadata[name]) end
  end
  for _, name in ipairs(LISTS) do
    local list = metadata[name] or {}
    for i = 1, #list do list[i] = text.storable(list[i]) end
  end
end

---SessionMetadata as a session record.
---@param metadata table decoded macp.v1.SessionMetadata
function M.session_of(metadata)
  local state = metadata.state
  if type(state) == "number" then state = lifecycle.NAMES[state] end
  local keys = metadata.extension_keys
  return {
    mode_name = metadata.mode or "", mode_version = metadata.mode_version or "",
    configuration_version = metadata.configuration_version or "",
    policy_version = (metadata.policy_version or "") ~= "" and metadata.policy_version or DEFAULT_POLICY,
    initiator = metadata.initiator or "", participants = metadata.participants or {},
    state = state or "SESSION_STATE_UNSPECIFIED", started_ms = positive(metadata.started_at_unix_ms),
    expires_ms = positive(metadata.expires_at_unix_ms),
    context_id = (metadata.context_id or "") ~= "" and metadata.context_id or nil,
    extension_keys = keys and #keys > 0 and json.array(keys) or nil,
    policy = NO_RULES,
  }
end

---How many envelopes the session has accepted, as far as its metadata tells.
function M.accepted_count(metadata)
  local count = 1
  for _, activity in ipairs(metadata.participant_activity or {}) do
    count = count + (tonumber(activity.message_count) or 0)
  end
  return count
end

---What metadata tells about the standing of its session.
---@param metadata table decoded macp.v1.SessionMetadata
---@param order { asked: integer|nil, at_ms: integer|nil, state: string|nil } when it was the case; state: when the
--- metadata may be of a later time
---@return macp.plane.Told
function M.told(metadata, order)
  local state = metadata.state
  if order.state and not lifecycle.is_terminal(state) then state = order.state end
  return { state = state, at_ms = order.at_ms, asked = order.asked, accepted = M.accepted_count(metadata),
    expires_ms = positive(metadata.expires_at_unix_ms), started_ms = positive(metadata.started_at_unix_ms) }
end

---A stored session row as a session record.
function M.from_row(row)
  local stored = json.decode(row.metadata) or {}
  return {
    mode_name = row.mode_name, mode_version = row.mode_version or "",
    configuration_version = row.configuration_version or "", policy_version = row.policy_version or DEFAULT_POLICY,
    initiator = row.initiator_participant_id or "", participants = stored.participants or {},
    state = row.session_state, started_ms = row.started_at, expires_ms = row.expires_at,
    context_id = stored.contextId, extension_keys = stored.extensionKeys, mode_revision = row.mode_revision,
    policy = session_policy(stored.policy),
  }
end

-- Rules of the session's policy, for modes whose presentation asks what is ready. (yields)
local function fetch_policy(client, session)
  if session.policy_version == DEFAULT_POLICY then return end
  local policy, err = client:get_policy(session.policy_version)
  if policy then
    session.policy = policy
  elseif not errors.is(err, "NOT_IMPLEMENTED") then
    log.warn("policy.unavailable", { policy = session.policy_version, error = err.message })
  end
end

---The revision that reads a session: the recorded one, else the current one of its mode. nil: none does. (yields)
---@param registry table|nil
---@param session table
function M.revision(registry, session)
  if registry == nil then return nil end
  if session.mode_revision then
    local rev, err = registry:pinned(session.mode_revision)
    if rev == nil then
      log.error("mode.revision_missing", { mode = session.mode_name, revision = session.mode_revision,
        error = err and err.message })
    end
    return rev
  end
  return registry:get(session.mode_name, session.mode_version) or registry:get(session.mode_name)
end

---Everything a new run needs to be bound. (yields)
---@return table session
---@return table|nil rev
function M.prepare(client, registry, metadata)
  M.storable(metadata)
  local session = M.session_of(metadata)
  fetch_policy(client, session)
  return session, M.revision(registry, session)
end

return M
