-- The conformance fixtures over the wire: gRPC, journal, restart and all.

local client = require("spec.support.runtime_client")

local crypto = require("host.crypto")
local fs = require("host.fs")
local json = require("host.json")

local FIXTURES = "spec/conformance/fixtures"
local STATES = { Open = 1, Resolved = 2, Expired = 3, Suspended = 4, Cancelled = 5 }

-- "decision.Proposal", "macp.modes.decision.v1.ProposalPayload", "Commitment": one message.
local function message_name(payload_type)
  if payload_type:find("^macp%.") then return payload_type end
  local mode, name = payload_type:match("^([%l_]+)%.(%u%a+)$")
  if mode then return string.format("macp.modes.%s.v1.%sPayload", mode, name) end
  return "macp.v1." .. payload_type .. "Payload"
end

-- Bytes are arrays of numbers in fixtures, annotations start with an underscore.
local function payload_fields(fields)
  local out = {}
  for name, value in pairs(fields) do
    if type(value) == "table" and json.is_array(value) and (value[1] == nil or type(value[1]) == "number") then
      local bytes = {}
      for i, byte in ipairs(value) do bytes[i] = string.char(byte) end
      value = table.concat(bytes)
    end
    if not name:find("^_") and value ~= json.null then out[name] = value end
  end
  return out
end

local function policy_dir(fixture)
  if fixture.policy == nil then return nil end
  local dir = assert(fs.temp_dir("macp-policies-"))
  assert(fs.write(dir .. "/policy.json", json.encode(fixture.policy)))
  return dir
end

local function payload_bytes(message, as_json)
  if as_json and message.message_type == "Contribute" then return json.encode(message.payload) end
  return client.payload(message_name(message.payload_type), payload_fields(message.payload))
end

local function play(rig, id, fixture, as_json)
  local problems = {}
  local ack = rig:send(fixture.initiator, client.start_envelope(id, {
    participants = fixture.participants, mode_version = fixture.mode_version,
    configuration_version = fixture.configuration_version, policy_version = fixture.policy_version,
    ttl_ms = fixture.ttl_ms,
  }, { mode = fixture.mode }))
  if not ack.ok then problems[#problems + 1] = "start: " .. ack.error.message end
  for i, message in ipairs(fixture.messages) do
    ack = rig:send(message.sender, client.envelope({
      mode = fixture.mode, session_id = id, message_type = message.message_type, message_id = "m" .. i,
      payload = payload_bytes(message, as_json),
    }))
    local verdict = ack.ok and "accept" or "reject"
    local code = ack.error and ack.error.code
    if verdict ~= message.expect or (message.expected_error_code and code ~= message.expected_error_code) then
      problems[#problems + 1] = string.format("message %d is %s %s, expected %s %s", i, verdict, code or "",
        message.expect, message.expected_error_code or "")
    end
  end
  return problems
end

local function state_of(rig, id, initiator)
  return assert(rig:call(initiator, "GetSession", { session_id = id })).metadata
end

describe("conformance over the wire", function()
  for _, name in ipairs({
    "decision_happy_path", "decision_negative_outcome", "decision_reject_paths", "decision_critical_veto",
    "decision_plurality", "decision_supermajority_empty_tally", "decision_weighted_zero_weight_v3",
    "decision_zero_participants", "decision_finalize_decline_quorum_waiver", "decision_happy_path_short_names",
    "multi_round_happy_path", "multi_round_happy_path_short_names", "multi_round_negative_outcome",
    "multi_round_reject_paths", "multi_round_designated_authority",
  }) do
    it("holds for " .. name .. ", before and after a restart", function()
      local fixture = assert(json.decode(assert(fs.read(FIXTURES .. "/" .. name .. ".json"))))
      local policies, id = policy_dir(fixture), crypto.uuid4()
      local rig = assert(client.start({ env = { MACP_POLICIES_DIR = policies or false } }))
      assert.same({}, play(rig, id, fixture))
      local metadata = state_of(rig, id, fixture.initiator)
      assert.equal(STATES[fixture.expected_final_state], metadata.state)
      rig = rig:again()
      assert.same(metadata, state_of(rig, id, fixture.initiator))
      rig:destroy()
      if policies then fs.remove_tree(policies) end
    end)
  end

  it("holds for contributions in their legacy JSON form, with the same resolution", function()
    local rig = assert(client.start())
    for _, name in ipairs({ "happy_path", "happy_path_short_names", "negative_outcome", "reject_paths" }) do
      local fixture = assert(json.decode(assert(fs.read(FIXTURES .. "/multi_round_" .. name .. ".json"))))
      local id = crypto.uuid4()
      assert.same({}, play(rig, id, fixture, true), name)
      assert.equal(STATES[fixture.expected_final_state], state_of(rig, id, fixture.initiator).state)
    end
    rig:destroy()
  end)
end)
