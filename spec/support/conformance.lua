-- Published conformance fixtures: what is known about them, and the envelopes they stand for.

local crypto = require("host.crypto")
local fs = require("host.fs")
local json = require("host.json")

local client = require("spec.support.runtime_client")

local M = {}

---Whether a fixture lists the coordinator as a participant, never lets it contribute, and yet expects the commitment to
---be accepted. Convergence needs every participant, so the mode's refusal is the right answer to such a file.
---@param fixture table decoded
function M.contradicts_itself(fixture)
  if fixture.mode ~= "ext.multi_round.v1" or fixture.expected_final_state ~= "Resolved" then return false end
  local has_contributed = {}
  for _, message in ipairs(fixture.messages) do
    if message.message_type == "Contribute" then has_contributed[message.sender] = true end
  end
  for _, name in ipairs(fixture.participants) do
    if not has_contributed[name] then return true end
  end
  return false
end

-- "decision.Proposal", "macp.modes.decision.v1.ProposalPayload", "Commitment": one message.
local function message_name(payload_type)
  if payload_type:find("^macp%.") then return payload_type end
  local mode, name = payload_type:match("^([%l_]+)%.(%u%a+)$")
  if mode then return string.format("macp.modes.%s.v1.%sPayload", mode, name) end
  return "macp.v1." .. payload_type .. "Payload"
end

-- Bytes are arrays of numbers in fixtures, nothing is an empty array, annotations start with an underscore. A
-- commitment is positive unless it says otherwise.
local function payload_fields(name, fields)
  local out = {}
  for field, value in pairs(fields) do
    if type(value) == "table" and json.is_array(value) then
      if value[1] == nil then
        value = nil
      elseif type(value[1]) == "number" then
        local bytes = {}
        for i, byte in ipairs(value) do bytes[i] = string.char(byte) end
        value = table.concat(bytes)
      end
    end
    if not field:find("^_") and value ~= json.null then out[field] = value end
  end
  if name == "Commitment" and out.outcome_positive == nil then out.outcome_positive = true end
  return out
end

---Fixtures of a directory whose mode is served: { name, doc (decoded), id (of a session) }. (yields)
function M.load_all(dir, served)
  local out = {}
  for _, entry in ipairs(assert(fs.list(dir))) do
    if entry.name:find("%.json$") and entry.name ~= "schema.json" then
      local doc = assert(json.decode(assert(fs.read(dir .. "/" .. entry.name))))
      if served[doc.mode] and not M.contradicts_itself(doc) then
        out[#out + 1] = { name = entry.name, doc = doc, id = crypto.uuid4() }
      end
    end
  end
  return out
end

---A new directory with their policies as the runtime loads them; the file names are the fixtures'. (yields)
function M.policy_dir(list)
  local dir = assert(fs.temp_dir("macp-policies-"))
  for _, item in ipairs(list) do
    if item.doc.policy then assert(fs.write(dir .. "/" .. item.name, json.encode(item.doc.policy))) end
  end
  return dir
end

local function payload_bytes(item, message)
  if item.as_json and message.message_type == "Contribute" then return json.encode(message.payload) end
  return client.payload(message_name(message.payload_type), payload_fields(message.message_type, message.payload))
end

---The envelope of the i-th message of a fixture.
function M.envelope_of(item, i)
  local message = item.doc.messages[i]
  return client.envelope({
    mode = item.doc.mode, session_id = item.id, message_type = message.message_type, message_id = "m" .. i,
    payload = payload_bytes(item, message),
  })
end

---The SessionStart of a fixture.
function M.start_of(item)
  local doc = item.doc
  return client.start_envelope(item.id, {
    participants = doc.participants, mode_version = doc.mode_version,
    configuration_version = doc.configuration_version, policy_version = doc.policy_version, ttl_ms = doc.ttl_ms,
  }, { mode = doc.mode })
end

return M
