-- Questions and changes that the plane passes on to its runtime: roots, policies, and what happens when it is away.

local json = require("macp.core.json")

local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")

local TOKENS = [=[[{"token":"plane","sender":"plane","is_observer":true,"can_manage_mode_registry":true},
  {"token":"reader","sender":"reader","is_observer":true}]]=]

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

local function policy(id, changes)
  local body = { policyId = id, mode = "macp.mode.decision.v1", description = "more than half",
    rules = { voting = { algorithm = "majority" } } }
  for key, value in pairs(changes or {}) do body[key] = value end
  return body
end

describe("the runtime behind the plane", function()
  local rig

  setup(function() rig = plane_rig.start({ runtime_env = { MACP_AUTH_TOKENS_JSON = TOKENS } }) end)
  teardown(function() rig:destroy() end)

  local function audited(action, id)
    return rig:rows("select count(*) as n from audit_log where action = $1 and resource_id = $2", action, id)[1].n
  end

  it("tells its roots", function()
    local status, roots = rig:get("/runtime/roots")
    assert.same({ 200, true, 0 }, { status, json.is_array(roots), #roots })
  end)

  it("registers, shows, lists and unregisters a policy, each change with an audit entry", function()
    local status, reply = rig:post("/runtime/policies", policy("team.first"))
    assert.same({ 200, { ok = true } }, { status, reply })
    local shown
    status, shown = rig:get("/runtime/policies/team.first")
    assert.equal(200, status)
    assert.is_true(shown.registeredAtUnixMs > 1600000000000)
    shown.registeredAtUnixMs = nil
    assert.same({ policyId = "team.first", mode = "macp.mode.decision.v1", description = "more than half",
      rules = { voting = { algorithm = "majority" } }, schemaVersion = 1 }, shown)
    local function listed(query)
      local _, list = rig:get("/runtime/policies" .. query)
      local ids = {}
      for _, item in ipairs(list) do ids[item.policyId] = true end
      return ids
    end
    assert.is_true(listed("")["team.first"])
    assert.is_true(listed("?mode=macp.mode.decision.v1")["policy.default"])
    assert.is_true(listed("?mode=macp.mode.decision.v1")["team.first"])
    assert.is_nil(listed("?mode=macp.mode.task.v1")["team.first"])
    status, reply = rig:request("DELETE", "/runtime/policies/team.first")
    assert.same({ 200, { ok = true } }, { status, reply })
    assert.equal(404, (rig:get("/runtime/policies/team.first")))
    assert.same({ 1, 1 }, { audited("policy.registered", "team.first"), audited("policy.unregistered", "team.first") })
  end)

  it("takes ids with slashes, written as they are or encoded", function()
    assert.equal(200, (rig:post("/runtime/policies", policy("team/a b"))))
    for _, path in ipairs({ "/runtime/policies/team/a%20b", "/runtime/policies/team%2Fa%20b" }) do
      local status, shown = rig:get(path)
      assert.same({ 200, "team/a b" }, { status, shown.policyId })
    end
    assert.equal(200, (rig:request("DELETE", "/runtime/policies/team/a%20b")))
  end)

  it("does not know a policy that is not there", function()
    local status, problem = rig:get("/runtime/policies/no.such")
    assert.same({ 404, "NOT_FOUND", 'policy "no.such" is not registered', "Not Found", { grpcCode = 5 } },
      { status, problem.errorCode, problem.message, problem.error, problem.metadata })
  end)

  it("says in the body why a policy is not unregistered, and audits nothing", function()
    local status, reply = rig:request("DELETE", "/runtime/policies/policy.default")
    assert.same({ 200, { ok = false, error = 'policy "policy.default" is built in and cannot be unregistered' } },
      { status, reply })
    status, reply = rig:request("DELETE", "/runtime/policies/no.such")
    assert.same({ 200, { ok = false, error = 'policy "no.such" is not found' } }, { status, reply })
    assert.equal(0, audited("policy.unregistered", "policy.default"))
  end)

  it("refuses an id that is taken with 409", function()
    assert.equal(200, (rig:post("/runtime/policies", policy("team.taken"))))
    local status, problem = rig:post("/runtime/policies", policy("team.taken"))
    assert.same({ 409, "CONFLICT", 'policy_id "team.taken" is already registered' },
      { status, problem.errorCode, problem.message })
    assert.equal(1, audited("policy.registered", "team.taken"))
  end)

  it("refuses rules that the mode does not take with 400 and the runtime's reasons", function()
    local status, problem = rig:post("/runtime/policies",
      policy("team.bad", { rules = { voting = { algorithm = "coin" } } }))
    assert.same({ 400, "INVALID_POLICY_DEFINITION" }, { status, problem.errorCode })
    assert.truthy(problem.message:find("^rules.voting.algorithm"), problem.message)
  end)

  local REFUSED = {
    { "the reserved id", { policyId = "policy.default" }, "policyId: policy.default is reserved" },
    { "weights that are absent", { rules = { voting = { algorithm = "weighted" } } }, "rules.voting.weights" },
    { "weights that are a list", { rules = { voting = { algorithm = "weighted", weights = { 1, 2 } } } },
      "rules.voting.weights" },
    { "a supermajority without threshold", { rules = { voting = { algorithm = "supermajority" } } },
      "rules.voting.threshold" },
    { "a supermajority of a half", { rules = { voting = { algorithm = "supermajority", threshold = 0.5 } } },
      "rules.voting.threshold" },
    { "a threshold that is text", { rules = { voting = { algorithm = "supermajority", threshold = "0.7" } } },
      "rules.voting.threshold" },
    { "no designated roles", { rules = { commitment = { authority = "designated_role" } } },
      "rules.commitment.designated_roles" },
    { "an empty list of roles", { rules = { commitment = { authority = "designated_role",
      designatedRoles = json.array({}) } } }, "rules.commitment.designated_roles" },
  }
  for _, case in ipairs(REFUSED) do
    it("is not asked about " .. case[1], function()
      local status, problem = rig:post("/runtime/policies", policy("team.refused", case[2]))
      assert.same({ 400, "INVALID_POLICY_DEFINITION", case[3] },
        { status, problem.errorCode, problem.message:sub(1, #case[3]) })
    end)
  end

  local INVALID = {
    { "no id", function(b) b.policyId = nil end, "policyId must be a string" },
    { "a blank id", function(b) b.policyId = "  " end, "policyId should not be empty" },
    { "no description", function(b) b.description = nil end, "description must be a string" },
    { "rules that are a list", function(b) b.rules = json.array({ 1 }) end, "rules must be an object" },
    { "a schema version of 0", function(b) b.schemaVersion = 0 end, "schemaVersion must not be less than 1" },
    { "an unknown field", function(b) b.policy = "x" end, "property policy should not exist" },
  }
  for _, case in ipairs(INVALID) do
    it("is not asked with " .. case[1], function()
      local body = policy("team.invalid")
      case[2](body)
      local status, problem = rig:post("/runtime/policies", body)
      assert.same({ 400, "VALIDATION_ERROR", case[3] },
        { status, problem.errorCode, problem.message[1]:sub(1, #case[3]) })
    end)
  end

  it("refuses changes by a plane that may not manage its registries, with 403", function()
    local other = rig.plane
    rig.plane = rig:start_plane({ RUNTIME_BEARER_TOKEN = "reader" })
    local made, problem = rig:post("/runtime/policies", policy("team.denied"))
    local taken = rig:request("DELETE", "/runtime/policies/team.taken")
    rig.plane:close()
    rig.plane = other
    assert.same({ 403, 403, "FORBIDDEN", { grpcCode = 7 } }, { made, taken, problem.errorCode, problem.metadata })
  end)
end)

describe("a runtime that is away", function()
  local rig

  setup(function()
    rig = plane_rig.start({ address = "127.0.0.1:1",
      env = { RUNTIME_CIRCUIT_BREAKER_THRESHOLD = "3", RUNTIME_CIRCUIT_BREAKER_RESET_MS = "60000" } })
  end)
  teardown(function() rig:destroy() end)

  it("P34: opens the circuit breaker: 503, told by readyz and the history, closed by hand", function()
    local first
    local problem = eventually(function()
      local status, body = rig:get("/runtime/policies")
      assert.equal(503, status)
      first = first or body.errorCode
      return body.errorCode == "CIRCUIT_BREAKER_OPEN" and body
    end, 20000, "an open breaker")
    assert.truthy(first == "RUNTIME_UNAVAILABLE" or first == "CIRCUIT_BREAKER_OPEN")
    assert.same({ statusCode = 503, errorCode = "CIRCUIT_BREAKER_OPEN", error = "Service Unavailable",
      message = "the circuit breaker is open" }, problem)
    local status, ready = rig:get("/readyz")
    assert.same({ 503, "OPEN" }, { status, ready.circuitBreaker })
    local _, told = rig:get("/admin/circuit-breaker/history?window=1h")
    assert.equal("OPEN", told.state)
    assert.same({ { "CLOSED", "initial" }, { "OPEN", "3 consecutive failures" } },
      { { told.history[1].state, told.history[1].reason }, { told.history[2].state, told.history[2].reason } })
    local _, later = rig:get("/admin/circuit-breaker/history?since=2100-01-01T00:00:00Z&window=1h")
    assert.equal(0, #later.history)
    local closed
    status, closed = rig:post("/admin/circuit-breaker/reset")
    assert.same({ 200, { status = "ok", state = "CLOSED" } }, { status, closed })
  end)
end)

describe("the plane's client of the runtime", function()
  it("cannot send: no method of it does, and no call is Send", function()
    local client = assert(require("macp.plane.runtime_client").new({
      address = "127.0.0.1:1", tls = false, kind = "rust", timeout_ms = 100, breaker_threshold = 1,
      breaker_reset_ms = 1000, version = "test", credentials = function() return {} end,
    }))
    for name in pairs(getmetatable(client).__index) do assert.is_nil(name:lower():find("send", 1, true)) end
    for _, method in ipairs({ "Send", "StreamSession", "RegisterExtMode", "PromoteMode" }) do
      local ok, err = pcall(client.call, client, method, {})
      assert.is_false(ok)
      assert.truthy(tostring(err):find("the control plane does not call " .. method, 1, true))
      assert.is_false((pcall(client.watch, client, method)))
    end
    client:close()
  end)
end)
