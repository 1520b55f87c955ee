-- Acceptance: the registries of modes and of policies.

local acceptance = require("spec.support.acceptance")
local crypto = require("host.crypto")
local rpc = require("host.rpc")
local json = require("macp.core.json")

local eventually = require("spec.support.eventually")

local BOSS, ANN, BOB = "agent://boss", "agent://ann", "agent://bob"

local function unique(prefix, suffix) return prefix .. crypto.hex(crypto.random(6)) .. (suffix or "") end

describe("acceptance: the mode registry", function()
  local at

  setup(function() at = acceptance.start() end)
  teardown(function() at:stop() end)

  local function register(id)
    return assert(at.rig:call(BOSS, "RegisterExtMode", { mode_descriptor = {
      mode = id, mode_version = "1.0.0", description = "a spec's", message_types = { "Ping", "Pong", "Commitment" },
      terminal_message_types = { "Commitment" },
    } }))
  end

  local function listed(method, id)
    for _, mode in ipairs(assert(at.rig:call(nil, method, {})).modes) do
      if mode.mode == id then return true end
    end
    return false
  end

  local function unregister(id) return assert(at.rig:call(BOSS, "UnregisterExtMode", { mode = id })) end

  it("lists an extension from its registration to its end", function()
    local id = unique("ext.spec.m", ".v1")
    assert.same({ true, "" }, { register(id).ok, "" })
    assert.is_true(listed("ListExtModes", id))
    assert.is_true(unregister(id).ok)
    assert.is_false(listed("ListExtModes", id))
  end)

  it("tells a watcher of a registration", function()
    local watch = at:follow(nil, "WatchModeRegistry")
    eventually(function() return #watch.seen > 0 end, 5000)
    local before, id = #watch.seen, unique("ext.spec.m", ".v1")
    assert.is_true(register(id).ok)
    eventually(function() return #watch.seen > before end, 5000)
    assert.equal("modes", watch.seen[#watch.seen].change.registry)
    watch.cancel()
    unregister(id)
  end)

  it("promotes under the same id, and never to a reserved or from an unknown one", function()
    local id = unique("ext.spec.m", ".v1")
    assert.is_true(register(id).ok)
    local reply = assert(at.rig:call(BOSS, "PromoteMode", { mode = id, promoted_mode_name = "macp.mode.spec.v1" }))
    assert.is_false(reply.ok)
    assert.truthy(reply.error:lower():find("reserved", 1, true), reply.error)
    reply = assert(at.rig:call(BOSS, "PromoteMode", { mode = unique("ext.none.m", ".v1") }))
    assert.is_true(not reply.ok and #reply.error > 0)
    if acceptance.given then return end -- what is promoted stays: not in somebody's runtime
    reply = assert(at.rig:call(BOSS, "PromoteMode", { mode = id }))
    assert.same({ true, id }, { reply.ok, reply.mode })
    assert.same({ true, false }, { listed("ListModes", id), listed("ListExtModes", id) })
  end)
end)

describe("acceptance: policies", function()
  local at

  setup(function() at = acceptance.start() end)
  teardown(function() at:stop() end)

  local function register(changes)
    local policy = { policy_id = unique("policy.spec."), mode = "*", description = "a spec's", rules = "{}",
      schema_version = 1 }
    for name, value in pairs(changes or {}) do policy[name] = value end
    return assert(at.rig:call(BOSS, "RegisterPolicy", { policy_descriptor = policy })), policy
  end

  local function forget(policy)
    return assert(at.rig:call(BOSS, "UnregisterPolicy", { policy_id = policy.policy_id }))
  end

  local function listed(filter)
    local found = {}
    for _, policy in ipairs(assert(at.rig:call(ANN, "ListPolicies", { mode = filter })).descriptors) do
      found[policy.policy_id] = true
    end
    return found
  end

  it("come back as they were registered, are listed, and go", function()
    local reply, policy = register({ mode = "macp.mode.decision.v1" })
    assert.is_true(reply.ok, reply.error)
    local found = assert(at.rig:call(ANN, "GetPolicy", { policy_id = policy.policy_id })).policy_descriptor
    assert.same({ policy.policy_id, policy.mode, 1 }, { found.policy_id, found.mode, found.schema_version })
    local every = register()
    assert.is_true(every.ok)
    local all, of_task = listed(), listed("macp.mode.task.v1")
    assert.same({ true, true }, { all["policy.default"], all[policy.policy_id] })
    assert.same({ true, nil }, { of_task["policy.default"], of_task[policy.policy_id] })
    assert.is_true(forget(policy).ok)
    assert.equal(rpc.status.NOT_FOUND, (at:ask(ANN, "GetPolicy", { policy_id = policy.policy_id })))
  end)

  it("keep policy.default, and refuse a second registration", function()
    assert.is_false(forget({ policy_id = "policy.default" }).ok)
    local _, policy = register()
    local again = register(policy)
    assert.is_false(again.ok)
    assert.truthy(again.error:find("already registered", 1, true), again.error)
    forget(policy)
  end)

  it("must be known at the start of a session", function()
    local ack = at:new_session({ mode = "decision", fields = { policy_version = unique("policy.none.") } }):start()
    assert.same({ false, "UNKNOWN_POLICY_VERSION" }, { ack.ok, ack.error.code })
  end)

  it("deny a commitment: unanimous, with one reject", function()
    local reply, policy = register({ mode = "macp.mode.decision.v1",
      rules = json.encode({ voting = { algorithm = "unanimous" } }) })
    assert.is_true(reply.ok, reply.error)
    local session = at:session({ mode = "decision", fields = { policy_version = policy.policy_id } })
    session:tell(ANN, "Proposal", { proposal_id = "p1", option = "o" })
    session:tell(ANN, "Vote", { proposal_id = "p1", vote = "APPROVE" })
    session:tell(BOB, "Vote", { proposal_id = "p1", vote = "REJECT" })
    local ack = session:commit("go", { policy_version = policy.policy_id })
    assert.same({ false, "POLICY_DENIED" }, { ack.ok, ack.error.code })
    local reasons = json.decode(ack.error.details).reasons
    assert.is_true(#reasons > 0 and type(reasons[1]) == "string")
    forget(policy)
  end)

  it("allow a commitment by default", function()
    local session = at:session({ mode = "decision" })
    session:tell(ANN, "Proposal", { proposal_id = "p1", option = "o" })
    session:tell(BOB, "Vote", { proposal_id = "p1", vote = "APPROVE" })
    assert.is_true(session:commit("go").ok)
  end)

  it("are told to watchers as a list with the new one", function()
    local watch = at:follow(ANN, "WatchPolicies")
    eventually(function() return #watch.seen > 0 end, 5000)
    local _, policy = register()
    eventually(function()
      for _, one in ipairs(watch.seen[#watch.seen].descriptors) do
        if one.policy_id == policy.policy_id then return true end
      end
    end, 5000)
    watch.cancel()
    forget(policy)
  end)
end)
