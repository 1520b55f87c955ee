local fakes = require("spec.support.runtime_fakes")

local task = require("host.task")

local descriptor = require("macp.runtime.policies.descriptor")
local policies = require("macp.runtime.policies")
local registry_of_modes = require("macp.modes.registry")

local DECISION = "macp.mode.decision.v1"

local function policy(changes)
  local fields = { policy_id = "policy.team.strict", mode = "*", rules = {}, schema_version = 1 }
  for key, value in pairs(changes or {}) do fields[key] = value end
  return assert(descriptor.of_table(fields))
end

-- A store that holds its writes back until it is told what becomes of them.
local function held_store()
  local held = { gate = task.cond(), writes = 0 }
  function held.decide(ok, err)
    held.result = { ok, err }
    held.gate:broadcast()
  end
  function held.put()
    held.writes = held.writes + 1
    if held.result == nil then held.gate:wait() end
    return unpack(held.result)
  end
  held.bury = held.put
  function held.forget() return true end
  function held.load() return { policies = {}, tombstones = {}, problems = {} } end
  return held
end

describe("policies", function()
  local registry, modes

  setup(function()
    modes = registry_of_modes.new({ depth = "validate" })
    assert(modes:load_all())
  end)
  teardown(function() modes:close() end)

  before_each(function() registry = policies.new({ modes = modes, now_ms = function() return 1790000000000 end }) end)

  it("have a default that every mode may bind", function()
    local found = assert(registry:resolve("", "ext.any.v1"))
    assert.same({ "policy.default", "*", "{}" }, { found.policy_id, found.mode, found.rules_json })
  end)

  it("have the standard profiles", function()
    local texts = {}
    for _, found in ipairs(registry:list(DECISION)) do
      texts[#texts + 1] = string.format("%s %s %d %s", found.policy_id, found.mode, found.schema_version,
        found.rules_json)
    end
    local quorum = '"quorum":{"type":"count","value":%d}'
    assert.same({
      "policy.default * 1 {}",
      'policy.std.majority macp.mode.decision.v1 1 {"commitment":{"require_vote_quorum":true},'
        .. '"voting":{"algorithm":"majority",' .. quorum:format(1) .. ',"threshold":0.5}}',
      'policy.std.supermajority macp.mode.decision.v1 1 {"commitment":{"require_vote_quorum":true},'
        .. '"voting":{"algorithm":"supermajority",' .. quorum:format(2) .. ',"threshold":0.6666666666666666}}',
      'policy.std.unanimous macp.mode.decision.v1 1 {"commitment":{"require_vote_quorum":true},'
        .. '"voting":{"algorithm":"unanimous",' .. quorum:format(1) .. "}}",
    }, texts)
  end)

  it("are fit themselves", function()
    for _, found in ipairs(registry:list()) do
      local ok, texts = modes:check_policy(found.mode, found.rules, found.schema_version)
      assert.is_true(ok)
      assert.same({}, texts)
    end
  end)

  it("bind to their own mode only", function()
    assert.is_table(registry:resolve("policy.std.majority", DECISION))
    assert.same({ "INVALID_POLICY_DEFINITION", 'policy "policy.std.majority" is for macp.mode.decision.v1' },
      { select(2, registry:resolve("policy.std.majority", "ext.any.v1")) })
    assert.same({ "UNKNOWN_POLICY_VERSION", 'policy "policy.none" is not registered' },
      { select(2, registry:resolve("policy.none", "ext.any.v1")) })
  end)

  it("are registered once", function()
    assert.is_true(registry:register(policy()))
    assert.equal(1790000000000, registry:get("policy.team.strict").registered_at_ms)
    assert.same({ [2] = 'policy_id "policy.team.strict" is already registered' }, { registry:register(policy()) })
  end)

  local REFUSED = {
    { { policy_id = "policy.default" },
      'INVALID_POLICY_DEFINITION: policy_id: "policy.default" is reserved for the policy that is built in' },
    { { policy_id = "policy.std.mine" },
      'INVALID_POLICY_DEFINITION: policy_id: "policy.std.mine" is reserved: policy.std.* belongs to the protocol' },
    { { policy_id = "policy.std.majority", mode = DECISION },
      'INVALID_POLICY_DEFINITION: policy_id: "policy.std.majority" is reserved for the policy that is built in' },
    { { policy_id = "policy.std.mine", mode = DECISION, rules = { voting = { threshold = "x" }, vote = {} } },
      'INVALID_POLICY_DEFINITION: policy_id: "policy.std.mine" is reserved: policy.std.* belongs to the protocol; '
        .. "rules.vote: unknown rule; "
        .. 'rules.voting.threshold: expected a number above 0 and at most 1, got "x"' },
    -- The standard profile itself, with its defaults spelled out and a note: a duplicate and no mistake.
    { { policy_id = "policy.std.unanimous", mode = DECISION, rules = { _note = "ours", voting = {
      algorithm = "unanimous", threshold = 0.5, quorum = { type = "count", value = 1 } },
      commitment = { require_vote_quorum = true, authority = "initiator_only" } } },
      'policy_id "policy.std.unanimous" is already registered: it is built in' },
  }
  for _, case in ipairs(REFUSED) do
    it("are refused with: " .. case[2], function()
      assert.same({ [2] = case[2] }, { registry:register(policy(case[1])) })
    end)
  end

  it("are taken out, except those that are built in", function()
    assert(registry:register(policy()))
    assert.is_true(registry:unregister("policy.team.strict"))
    assert.is_nil(registry:get("policy.team.strict"))
    assert.same({ [2] = 'policy "policy.team.strict" is not found' }, { registry:unregister("policy.team.strict") })
    assert.same({ [2] = 'policy "policy.default" is built in and cannot be unregistered' },
      { registry:unregister("policy.default") })
  end)

  it("come back under their id with the same meaning only", function()
    assert(registry:register(policy({ mode = DECISION, rules = { voting = { algorithm = "plurality" } } })))
    assert(registry:unregister("policy.team.strict"))
    local taken = 'policy_id "policy.team.strict" was already registered with another meaning, '
      .. "and an id never changes it: use a new one"
    assert.same({ [2] = taken }, { registry:register(policy({ mode = DECISION })) })
    assert.same({ [2] = taken }, { registry:register(policy({ mode = DECISION, schema_version = 2,
      rules = { voting = { algorithm = "plurality" } } })) })
    assert.is_true(registry:register(policy({ mode = DECISION, description = "again",
      rules = { voting = { algorithm = "plurality", quorum = { value = 0 } }, _note = "same" } })))
  end)

  it("are seen by nobody before they are on disk", function()
    local store = held_store()
    registry = policies.new({ modes = modes, store = store, now_ms = function() return 1 end })
    local version = registry.version
    local first = task.spawn(function() return registry:register(policy()) end)
    local second = task.spawn(function() return registry:register(policy()) end)
    local other = task.spawn(function() return registry:register(policy({ policy_id = "policy.team.other" })) end)
    require("spec.support.eventually")(function() return store.writes == 2 end, 2000)
    assert.is_nil(registry:get("policy.team.strict"))
    assert.equal(version, registry.version)
    store.decide(true)
    assert.is_true(first:join())
    assert.same({ [2] = 'policy_id "policy.team.strict" is already registered' }, { second:join() })
    assert.is_true(other:join())
    assert.equal(version + 2, registry.version)
  end)

  it("are registered to the end though the caller leaves", function()
    local store = held_store()
    registry = policies.new({ modes = modes, store = store, now_ms = function() return 1 end })
    local caller = task.spawn(function() return registry:register(policy()) end)
    require("spec.support.eventually")(function() return store.writes == 1 end, 2000)
    caller:cancel()
    caller:join()
    store.decide(true)
    require("spec.support.eventually")(function() return registry:get("policy.team.strict") end, 2000)
  end)

  it("change nothing when the disk fails", function()
    local store = held_store()
    store.decide(nil, { code = "IO", message = "no space left" })
    registry = policies.new({ modes = modes, store = store, now_ms = function() return 1 end })
    local count, bytes, version = registry.count, registry.bytes, registry.version
    local ok, text, err = registry:register(policy())
    assert.same({ nil, "no space left", "IO" }, { ok, text, err.code })
    assert.same({ count, bytes, version }, { registry.count, registry.bytes, registry.version })
    assert.is_nil(registry:get("policy.team.strict"))
    store.decide(true)
    assert.is_true(registry:register(policy()))
    store.decide(nil, { code = "IO", message = "no space left" })
    assert.is_nil(registry:unregister("policy.team.strict"))
    assert.is_table(registry:get("policy.team.strict"))
  end)

  it("are bounded in number and in bytes", function()
    for i = registry.count + 1, 1000 do
      assert(registry:register(policy({ policy_id = "policy.many.p" .. i })))
    end
    assert.same({ [2] = "1000 policies are registered, and there is room for no more" },
      { registry:register(policy()) })
    registry = policies.new({ modes = modes, now_ms = function() return 1 end })
    local stopped
    for i = 1, 100 do
      local ok, text = registry:register(policy({ policy_id = "policy.big.p" .. i,
        rules = { _note = ("x"):rep(65000) } }))
      stopped = stopped or (not ok and text)
    end
    assert.truthy(stopped:find("^the registered policies take %d+ bytes, and there is room for 3145728$"), stopped)
    assert.is_true(#registry:snapshot() < 4 * 1024 * 1024)
  end)

  it("remember ten thousand ids that were taken out", function()
    local quick = fakes.modes()
    registry = policies.new({ modes = quick, now_ms = function() return 1 end })
    local function once(id, rules)
      local ok, text = registry:register(policy({ policy_id = id, rules = rules }))
      if ok then assert(registry:unregister(id)) end
      return ok, text
    end
    for i = 1, 10000 do assert(once("policy.t.p" .. i)) end
    assert.is_nil(once("policy.t.p1", { a = 1 }))
    assert(once("policy.t.one_more"))
    assert.is_true(once("policy.t.p1", { a = 1 }))
    assert.equal(10000, #registry.buried)
  end)

  it("are judged by the newest version of a mode that changed, and kept whatever it says", function()
    local quick, asked, verdict = fakes.modes(), nil, {}
    local newest = quick:get("ext.loose.v1")
    function quick.policy_checker(_, rev)
      asked = rev
      return function() return unpack(verdict) end
    end
    registry = policies.new({ modes = quick, now_ms = function() return 1 end })
    assert(registry:register(policy({ mode = "ext.loose.v1" })))
    verdict = { nil, { "rules.a: no", "rules.b: neither" } }
    registry:mode_changed({ id = "ext.loose.v1" })
    assert.equal(newest, asked)
    assert.same({ "INVALID_POLICY_DEFINITION",
      'policy "policy.team.strict" does not fit the mode as it is now: rules.a: no; rules.b: neither' },
      { select(2, registry:resolve("policy.team.strict", "ext.loose.v1")) })
    assert.is_table(registry:get("policy.team.strict"))
    verdict = { true, {} }
    registry:mode_changed({ id = "ext.loose.v1" })
    assert.is_table(registry:resolve("policy.team.strict", "ext.loose.v1"))
  end)

  it("share the memory of equal bindings, and only of equal ones", function()
    assert(registry:register(policy({ mode = "ext.own.v1", rules = { a = 1 } })))
    local own = registry:resolve("policy.team.strict", "ext.own.v1")
    local equal = { policy_id = own.policy_id, mode = own.mode, rules_json = own.rules_json, schema_version = 1 }
    assert.equal(own, registry:intern(equal))
    local other = { policy_id = own.policy_id, mode = own.mode, rules_json = '{"a":2}', schema_version = 1 }
    assert.equal(other, registry:intern(other))
  end)
end)
