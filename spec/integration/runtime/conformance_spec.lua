-- The conformance fixtures over the wire: gRPC, every store, restart and all. MACP_CONFORMANCE names a directory of more.

local client = require("spec.support.runtime_client")
local fixtures = require("spec.support.conformance")
local journal_stores = require("spec.support.journal_stores")

local fs = require("host.fs")
local json = require("host.json")
local sys = require("host.sys")

local FIXTURES = "spec/conformance/fixtures"
local MODES = { "macp.mode.decision.v1", "macp.mode.proposal.v1", "macp.mode.task.v1", "macp.mode.handoff.v1",
  "macp.mode.quorum.v1", "ext.multi_round.v1" }
local STATES = { Open = 1, Resolved = 2, Expired = 3, Suspended = 4, Cancelled = 5 }

-- Plays one fixture; returns what is wrong.
local function play(rig, item)
  local doc, problems = item.doc, {}
  local ack = rig:send(doc.initiator, fixtures.start_of(item))
  if not ack.ok then return { item.name .. ": start: " .. ack.error.message } end
  for i, message in ipairs(doc.messages) do
    ack = rig:send(message.sender, fixtures.envelope_of(item, i))
    local verdict = ack.ok and "accept" or "reject"
    local code = ack.error and ack.error.code
    if verdict ~= message.expect or (message.expected_error_code and code ~= message.expected_error_code) then
      problems[#problems + 1] = string.format("%s: message %d is %s %s, expected %s %s", item.name, i, verdict,
        code or "", message.expect, message.expected_error_code or "")
    end
  end
  return problems
end

local function metadata_of(rig, item)
  return assert(rig:call(item.doc.initiator, "GetSession", { session_id = item.id })).metadata
end

-- What is wrong after a restart: another state, or a history that does not hold exactly the accepted messages.
local function recheck(rig, item)
  local problems = {}
  if json.encode(metadata_of(rig, item), { sorted = true }) ~= json.encode(item.metadata, { sorted = true }) then
    problems[1] = item.name .. ": another session after the restart"
  end
  for i, message in ipairs(item.doc.messages) do
    local ack = rig:send(message.sender, fixtures.envelope_of(item, i))
    local known = ack.ok and ack.duplicate
    if known ~= (message.expect == "accept") then
      problems[#problems + 1] = string.format("%s: message %d is %sa duplicate after the restart", item.name, i,
        known and "" or "not ")
    end
  end
  return problems
end

local function add(into, list)
  for _, item in ipairs(list) do into[#into + 1] = item end
end

-- Every fixture of a directory that `wanted` names, on one server with the given settings, which is then restarted on its
-- data unless it keeps them in memory.
local function run(dir, env, wanted, as_json)
  local served = {}
  local rig = assert(client.start())
  for _, mode in ipairs(rig.role.modes:list()) do served[mode.mode] = true end
  rig:destroy()
  local list, problems = {}, {}
  for _, item in ipairs(fixtures.load_all(dir, served)) do
    item.as_json = as_json
    if wanted == nil or item.name:find(wanted) then list[#list + 1] = item end
  end
  local policies = fixtures.policy_dir(list)
  local settings = { MACP_POLICIES_DIR = policies }
  for name, value in pairs(env) do settings[name] = value end
  rig = assert(client.start({ dir = env.MACP_DATA_DIR, env = settings }))
  for _, item in ipairs(list) do
    add(problems, play(rig, item))
    item.metadata = metadata_of(rig, item)
    if item.metadata.state ~= STATES[item.doc.expected_final_state] then
      problems[#problems + 1] = string.format("%s: the session ends in state %d, expected %s", item.name,
        item.metadata.state, item.doc.expected_final_state)
    end
  end
  if not env.MACP_MEMORY_ONLY then rig = rig:again() end
  for _, item in ipairs(list) do add(problems, recheck(rig, item)) end
  rig:destroy()
  fs.remove_tree(policies)
  return list, problems
end

local function in_memory(fn) fn({ MACP_MEMORY_ONLY = "1" }) end

local function on_store(name, with_store)
  it("holds for every fixture, before and after a restart: " .. name, function()
    with_store(function(env)
      local list, problems = run(FIXTURES, env)
      assert.same({}, problems)
      local modes = {}
      for _, item in ipairs(list) do modes[item.doc.mode] = true end
      for _, mode in ipairs(MODES) do assert.is_true(modes[mode], "no fixture of " .. mode) end
    end)
  end)

  it("holds for contributions in their legacy JSON form: " .. name, function()
    with_store(function(env)
      local list, problems = run(FIXTURES, env, "^multi_round_", true)
      assert.same({}, problems)
      assert.is_true(#list >= 5)
    end)
  end)

  local given = sys.env("MACP_CONFORMANCE")
  if given and given ~= "" then
    it("holds for every fixture of MACP_CONFORMANCE: " .. name, function()
      with_store(function(env)
        local list, problems = run(given, env)
        assert.is_true(#list > 0, "no fixture of a served mode in " .. given)
        assert.same({}, problems)
      end)
    end)
  end
end

describe("conformance over the wire", function()
  journal_stores.each(on_store)
  on_store("memory, without a restart", in_memory)
end)
