-- What a bound policy does to a session over its whole life, restarts included: over real gRPC and a real journal.

local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")
local program = require("spec.support.program")

local crypto = require("host.crypto")
local fs = require("host.fs")

local json = require("macp.core.json")
local records = require("macp.runtime.records")

local DECISION = "macp.mode.decision.v1"
local DENIED = 'PolicyDenied: voting.threshold: unanimous: 1 participants have not approved, 1 rejects'

local function register(rig, changes)
  local fields = { policy_id = "policy.team.strict", mode = DECISION, rules = '{"voting":{"algorithm":"unanimous"}}',
    schema_version = 3 }
  for key, value in pairs(changes or {}) do fields[key] = value end
  return assert(rig:call("boss", "RegisterPolicy", { policy_descriptor = fields }))
end

local function start(rig, policy_version, changes)
  local id = crypto.uuid4()
  local ack = rig:send("boss", client.start_envelope(id, { policy_version = policy_version }, changes))
  return id, ack
end

local function send(rig, id, by, message_type, message_id, payload)
  return rig:send(by, client.envelope({ session_id = id, message_type = message_type, message_id = message_id,
    payload = client.payload("macp.modes.decision.v1." .. message_type .. "Payload", payload) }))
end

local function vote(rig, id, ann, bob)
  assert.is_true(send(rig, id, "ann", "Proposal", "p", { proposal_id = "p1", option = "A" }).ok)
  if ann then assert.is_true(send(rig, id, "ann", "Vote", "va", { proposal_id = "p1", vote = ann }).ok) end
  if bob then assert.is_true(send(rig, id, "bob", "Vote", "vb", { proposal_id = "p1", vote = bob }).ok) end
end

local function commit_envelope(id, message_id, action, policy_version)
  return client.envelope({ session_id = id, message_type = "Commitment", message_id = message_id,
    payload = client.payload("macp.v1.CommitmentPayload", {
      commitment_id = "c", action = action or "decision.selected", authority_scope = "team", reason = "voted",
      mode_version = "1.0.0", configuration_version = "config.default", policy_version = policy_version or "",
      outcome_positive = (action or "decision.selected") == "decision.selected",
    }) })
end

local function commit(rig, id, message_id, by, action)
  return rig:send(by or "boss", commit_envelope(id, message_id, action))
end

describe("a session under a policy", function()
  local rig

  before_each(function() rig = assert(client.start()) end)
  after_each(function() rig:destroy() end)

  it("needs a policy that exists and is for its mode", function()
    local _, ack = start(rig, "policy.none")
    assert.same({ "UNKNOWN_POLICY_VERSION", 'UnknownPolicyVersion: policy "policy.none" is not registered' },
      { ack.error.code, ack.error.message })
    register(rig, { policy_id = "policy.other.mode", mode = "ext.auction.v1", rules = "{}" })
    _, ack = start(rig, "policy.other.mode")
    assert.same({ "INVALID_POLICY_DEFINITION", 'InvalidPolicyDefinition: policy "policy.other.mode" is for '
      .. "ext.auction.v1" }, { ack.error.code, ack.error.message })
  end)

  it("shows the policy it resolved, and takes its name or none in a commitment", function()
    local id = start(rig, "")
    assert.equal("policy.default", assert(rig:call("boss", "GetSession", { session_id = id })).metadata.policy_version)
    vote(rig, id)
    local ack = rig:send("boss", commit_envelope(id, "c1", nil, "policy.other.x"))
    assert.equal("INVALID_ENVELOPE", ack.error.code)
    assert.is_true(rig:send("boss", commit_envelope(id, "c2", nil, "policy.default")).ok)
  end)

  it("is denied with all reasons, by rule, stays open, and may try again with the same id", function()
    register(rig, { rules = json.encode({ voting = { algorithm = "unanimous", quorum = { value = 3 } },
      evaluation = { required_before_voting = true }, commitment = { require_vote_quorum = true } }) })
    local id = start(rig, "policy.team.strict")
    vote(rig, id, "APPROVE", "REJECT")
    local ack = commit(rig, id, "c1")
    assert.equal("POLICY_DENIED", ack.error.code)
    local items = {
      { rule = "evaluation.required_before_voting", text = "no evaluation was provided" },
      { rule = "voting.quorum.value", text = "2 of 2 participants voted, the quorum is 3" },
      { rule = "voting.threshold", text = "unanimous: 1 participants have not approved, 1 rejects" },
    }
    local reasons = {}
    for i, item in ipairs(items) do reasons[i] = item.rule .. ": " .. item.text end
    assert.same({ reasons = reasons, items = items }, json.decode(ack.error.details))
    assert.equal("PolicyDenied: " .. table.concat(reasons, "; "), ack.error.message)
    assert.equal(1, assert(rig:call("boss", "GetSession", { session_id = id })).metadata.state)
    assert.equal("POLICY_DENIED", commit(rig, id, "c1").error.code)
  end)

  it("W36: carries the reasons of a denial in the inline error of a stream", function()
    register(rig)
    local id = start(rig, "policy.team.strict")
    vote(rig, id, "APPROVE", "REJECT")
    local stream = rig:stream("boss")
    stream:write({ envelope = commit_envelope(id, "c1") })
    local answer = assert(stream:read())
    while answer.error == nil do answer = assert(stream:read()) end
    assert.same({ "POLICY_DENIED", DENIED, id, "c1" },
      { answer.error.code, answer.error.message, answer.error.session_id, answer.error.message_id })
    assert.same({ "voting.threshold: unanimous: 1 participants have not approved, 1 rejects" },
      json.decode(answer.error.details).reasons)
    stream:cancel()
  end)

  it("keeps the policy it bound when that is taken out of the registry", function()
    register(rig)
    local id = start(rig, "policy.team.strict")
    vote(rig, id, "APPROVE", "REJECT")
    assert.is_true(rig:call("boss", "UnregisterPolicy", { policy_id = "policy.team.strict" }).ok)
    local ack = commit(rig, id, "c1")
    assert.equal(DENIED, ack.error.message)
    ack = select(2, start(rig, "policy.team.strict"))
    assert.equal("UNKNOWN_POLICY_VERSION", ack.error.code)
  end)

  it("lets those end it who could commit, and nobody else", function()
    local function allowed(id, by)
      local answer, err = rig:call(by, "SuspendSession", { session_id = id, reason = "x" })
      if answer == nil then
        assert.same({ 7, "FORBIDDEN: only the initiator and whom the policy names may do this" },
          { err.status, err.message })
        return false
      end
      assert.is_true(answer.ack.ok)
      assert.is_true(rig:call(by, "ResumeSession", { session_id = id, reason = "y" }).ack.ok)
      return true
    end
    register(rig, { policy_id = "policy.team.any", rules = '{"commitment":{"authority":"any_participant"}}' })
    register(rig, { policy_id = "policy.team.role",
      rules = '{"commitment":{"authority":"designated_role","designated_roles":["judge"]}}' })
    local people = { "boss", "ann", "judge", "eve" }
    local function verdicts(policy_id)
      local id, out = start(rig, policy_id), {}
      for i, who in ipairs(people) do out[i] = allowed(id, who) end
      vote(rig, id)
      for _, who in ipairs(people) do
        local ack = commit(rig, id, "c-" .. who, who)
        out[#out + 1] = ack.ok and "committed" or ack.error.code
        if ack.ok then break end
      end
      return out
    end
    assert.same({ true, false, false, false, "committed" }, verdicts(""))
    assert.same({ true, true, false, false, "committed" }, verdicts("policy.team.any"))
    -- The initiator keeps the session in hand, but a named role alone commits.
    assert.same({ true, false, true, false, "FORBIDDEN", "FORBIDDEN", "committed" }, verdicts("policy.team.role"))
    local id = start(rig, "policy.team.role")
    assert.equal(5, assert(rig:call("judge", "CancelSession", { session_id = id })).ack.session_state)
  end)
end)

describe("W9: governance after kill -9", function()
  local dir

  before_each(function() dir = assert(fs.temp_dir("macp-governance-")) end)
  after_each(function() fs.remove_tree(dir) end)

  local function run()
    local proc = program.start({ args = { "runtime", "--log-level", "info" }, env = {
      MACP_ALLOW_INSECURE = "1", MACP_BIND_ADDR = "127.0.0.1:0", MACP_DATA_DIR = dir, MACP_LOG_FORMAT = "json",
      MACP_POLICIES_DIR = false,
    } })
    return proc, client.connect(proc:wait_line('"address":"([^"]+)"'))
  end

  it("is what it was: for the policy, for its session, and after the policy was taken out", function()
    local proc, rig = run()
    register(rig)
    register(rig, { policy_id = "policy.team.gone" })
    local kept, gone = start(rig, "policy.team.strict"), start(rig, "policy.team.gone")
    vote(rig, kept, "APPROVE", "REJECT")
    vote(rig, gone, "APPROVE", "REJECT")
    assert.is_true(rig:call("boss", "UnregisterPolicy", { policy_id = "policy.team.gone" }).ok)
    local before = assert(rig:call("ann", "GetPolicy", { policy_id = "policy.team.strict" })).policy_descriptor
    rig.channel:close()
    proc:crash()

    proc, rig = run()
    assert.same(before, assert(rig:call("ann", "GetPolicy", { policy_id = "policy.team.strict" })).policy_descriptor)
    local _, err = rig:call("ann", "GetPolicy", { policy_id = "policy.team.gone" })
    assert.equal(5, err.status)
    for id, name in pairs({ [kept] = "policy.team.strict", [gone] = "policy.team.gone" }) do
      assert.equal(name, assert(rig:call("boss", "GetSession", { session_id = id })).metadata.policy_version)
      assert.equal(DENIED, commit(rig, id, "c1").error.message)
      assert.is_true(commit(rig, id, "c2", "boss", "decision.declined").ok)
    end
    assert.equal('policy_id "policy.team.gone" was already registered with another meaning, and an id never changes '
      .. "it: use a new one", register(rig, { policy_id = "policy.team.gone", rules = "{}" }).error)
    rig.channel:close()
    proc:crash()
  end)

  it("holds every registration that was acknowledged, killed in the middle of many", function()
    local proc, rig = run()
    local done, alive = {}, true
    local workers = {}
    for worker = 1, 4 do
      workers[worker] = require("host.task").spawn(function()
        for i = 1, 1000 do
          local id = string.format("policy.load.w%d-%d", worker, i)
          local answer = alive and rig:call("boss", "RegisterPolicy", { policy_descriptor = { policy_id = id,
            mode = "*", schema_version = 3 } })
          if not answer or not answer.ok then return end
          done[#done + 1] = id
        end
      end)
    end
    eventually(function() return #done >= 40 end, 20000)
    proc:crash()
    alive = false
    for _, worker in ipairs(workers) do worker:join() end
    rig.channel:close()
    proc, rig = run()
    local found = {}
    for _, one in ipairs(assert(rig:call("ann", "ListPolicies", {})).descriptors) do found[one.policy_id] = true end
    for _, id in ipairs(done) do assert.is_true(found[id], id) end
    rig.channel:close()
    proc:crash()
  end)
end)

describe("W9: a session whose policy is lost", function()
  local function with_first_record(change)
    local rig = assert(client.start())
    local id = start(rig, "policy.std.majority")
    vote(rig, id, "APPROVE", "APPROVE")
    local role = rig.role
    local session = assert(role.sessions:find(id))
    local read = role.journal.read
    local journal = setmetatable({}, { __index = function(_, name)
      return function(_, ...) return role.journal[name](role.journal, ...) end
    end })
    function journal.read(_, key, from, ...)
      local chunk, err = read(role.journal, key, from, ...)
      if chunk and from == 1 and #chunk > 0 then
        local first = records.decode(chunk[1])
        change(first.bindings)
        chunk[1] = records.frame(first.envelope) .. records.marked_tail({ received_at_ms = first.received_at_ms,
          state = first.state, bindings = first.bindings })
      end
      return chunk, err
    end
    role.loader.journal = journal
    assert(role.loader:reload(session))
    local ack = commit(rig, id, "c1")
    local metadata = assert(rig:call("boss", "GetSession", { session_id = id })).metadata
    local _, err = rig:call("ann", "CancelSession", { session_id = id })
    local cancelled = assert(rig:call("boss", "CancelSession", { session_id = id })).ack.ok
    rig:destroy()
    return ack.error, metadata, err.status, cancelled
  end

  it("refuses commitments when the record holds none, and its initiator may end it", function()
    local refusal, metadata, status, cancelled = with_first_record(function(bindings) bindings.policy = nil end)
    assert.same({ "POLICY_DENIED", 'PolicyDenied: the history does not hold the policy "policy.std.majority" that the '
      .. "session was started with" }, { refusal.code, refusal.message })
    assert.equal("policy.std.majority", metadata.policy_version)
    assert.equal(1, metadata.state)
    assert.same({ 7, true }, { status, cancelled })
  end)

  it("refuses commitments when the recorded rules do not parse", function()
    local refusal = with_first_record(function(bindings) bindings.policy.rules = "{oops" end)
    assert.equal('PolicyDenied: the rules of the policy "policy.std.majority", as they are recorded, are no JSON '
      .. "object: line 1, column 2: a member name in quotes is expected", refusal.message)
  end)

  it("refuses commitments under a schema version from the future", function()
    local refusal = with_first_record(function(bindings) bindings.policy.schema_version = 4 end)
    assert.equal("PolicyDenied: schema version 4 is not supported (1 to 3 are)", refusal.message)
  end)
end)

describe("a policy that a changed mode does not take any more", function()
  local HELLO = [[
return {
  id = "ext.hello.v1", version = "1.0.0", title = "Hello", summary = "Everybody says hello.",
  participants = { model = "peer", min = 1 }, determinism = "semantic-deterministic", state = {},
  messages = { Hello = { from = "participant", payload = " string text = 1; " } },
  outcomes = { { action = "hello.completed", positive = true } },
  policy = { rules = { ["hello.limit"] = { type = "integer", max = %d } } },
}
]]

  it("is kept, told, and refused to new sessions until the mode takes it again", function()
    local dir = assert(fs.temp_dir("macp-hello-"))
    local function write(max)
      assert(fs.mkdir_p(dir .. "/hello"))
      assert(fs.write(dir .. "/hello/mode.lua", HELLO:format(max)))
    end
    write(10)
    local rig = assert(client.start({ mode_dirs = { dir } }))
    register(rig, { policy_id = "policy.hello.five", mode = "ext.hello.v1", rules = '{"hello":{"limit":5}}' })
    local function begin() return select(2, start(rig, "policy.hello.five", { mode = "ext.hello.v1" })) end
    assert.is_true(begin().ok)
    write(3)
    eventually(function() return not begin().ok end, 5000)
    local ack = begin()
    assert.same({ "INVALID_POLICY_DEFINITION", 'InvalidPolicyDefinition: policy "policy.hello.five" does not fit the '
      .. "mode as it is now: rules.hello.limit: expected a whole number of at most 3, got 5" },
      { ack.error.code, ack.error.message })
    assert.is_table(rig:call("ann", "GetPolicy", { policy_id = "policy.hello.five" }))
    rig = rig:again()
    assert.equal("INVALID_POLICY_DEFINITION", begin().error.code)
    write(5)
    eventually(function() return begin().ok end, 5000)
    rig:destroy()
    fs.remove_tree(dir)
  end)
end)
