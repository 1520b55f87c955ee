-- Registering a mode of one's own over the wire, and sessions of it.

local assert = require("luassert")

local crypto = require("host.crypto")

local client = require("spec.support.runtime_client")

local M = {}

---A descriptor of a mode, with changes.
function M.descriptor(changes)
  local out = {
    mode = "ext.chat.v1", mode_version = "1.2.0", title = "Chat", description = "Talk.",
    message_types = { "SessionStart", "Ping", "Pong", "Commitment" }, terminal_message_types = { "Commitment" },
    schema_uris = { proto = "https://example.org/chat.proto" },
  }
  for key, value in pairs(changes or {}) do out[key] = value end
  return out
end

---Registers it; the answer. (yields)
function M.register(rig, changes, token)
  return rig:call(token or "boss", "RegisterExtMode", { mode_descriptor = M.descriptor(changes) })
end

---Why it is not registered. (yields)
function M.refusal(rig, changes)
  local answer = assert(M.register(rig, changes))
  assert.is_false(answer.ok)
  return answer.error
end

---Ids of the modes that a method lists. (yields)
function M.ids(rig, method)
  local out = {}
  for i, mode in ipairs(assert(rig:call(nil, method)).modes) do out[i] = mode.mode end
  return out
end

---Whether a list has an item.
function M.contains(list, wanted)
  for _, item in ipairs(list) do
    if item == wanted then return true end
  end
  return false
end

---Ids of the modes that Initialize names. (yields)
function M.supported(rig)
  return assert(rig:call(nil, "Initialize", { supported_protocol_versions = { "1.0" } })).supported_modes
end

---Starts a session with nothing but a time to live; the ack and the id. (yields)
function M.start(rig, mode, fields, id)
  id = id or crypto.uuid4()
  local payload = { participants = {}, mode_version = "", configuration_version = "", intent = "", ttl_ms = 60000 }
  for key, value in pairs(fields or {}) do payload[key] = value end
  return rig:send("host", client.start_envelope(id, payload, { mode = mode })), id
end

local serial = 0

---Sends a message with an id of its own; the ack. (yields)
function M.send(rig, sender, id, mode, message_type, payload)
  serial = serial + 1
  return rig:send(sender, client.envelope({ mode = mode, session_id = id, message_type = message_type,
    message_id = "n" .. serial, payload = payload or "" }))
end

---A commitment's payload, with changes.
function M.commitment(fields)
  local payload = { commitment_id = "c1", action = "chat.completed", authority_scope = "chat", reason = "done",
    mode_version = "1.2.0", configuration_version = "", policy_version = "", outcome_positive = true }
  for key, value in pairs(fields or {}) do payload[key] = value end
  return client.payload("macp.v1.CommitmentPayload", payload)
end

---Metadata of a session. (yields)
function M.state_of(rig, id)
  return assert(rig:call("host", "GetSession", { session_id = id })).metadata
end

return M
