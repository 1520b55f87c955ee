-- The policy RPCs over real gRPC: who may do what, in which order things are checked, and what is answered.

local client = require("spec.support.runtime_client")

local fs = require("host.fs")

local json = require("macp.core.json")

local DECISION = "macp.mode.decision.v1"
local INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED = 3, 5, 7
local FAILED_PRECONDITION, INTERNAL, UNAUTHENTICATED = 9, 13, 16

local TOKENS = json.encode(json.decode([[ [
  { "token": "boss", "sender": "boss", "can_manage_mode_registry": true },
  { "token": "ann", "sender": "ann", "can_manage_mode_registry": false } ] ]]))

local function descriptor(changes)
  local fields = { policy_id = "policy.team.strict", mode = DECISION, description = "votes bind",
    rules = '{"voting":{"algorithm":"unanimous"}}', schema_version = 3, registered_at_unix_ms = 1 }
  for key, value in pairs(changes or {}) do fields[key] = value end
  return fields
end

describe("the policy registry", function()
  local rig

  before_each(function() rig = assert(client.start({ env = { MACP_MEMORY_ONLY = "1" } })) end)
  after_each(function() rig:destroy() end)

  local function register(changes, token)
    return rig:call(token or "boss", "RegisterPolicy", { policy_descriptor = descriptor(changes) })
  end

  local function ids(mode)
    local out = {}
    for i, found in ipairs(assert(rig:call("ann", "ListPolicies", { mode = mode })).descriptors) do
      out[i] = found.policy_id
    end
    return out
  end

  it("gives back what was registered, with the time", function()
    local before = require("host.sys").now_ms()
    assert.same({ ok = true, error = "" }, register())
    local found = assert(rig:call("ann", "GetPolicy", { policy_id = "policy.team.strict" })).policy_descriptor
    local at = found.registered_at_unix_ms
    assert.is_true(at >= before and at <= require("host.sys").now_ms())
    assert.same(descriptor({ registered_at_unix_ms = at }), found)
    local default = assert(rig:call("ann", "GetPolicy", { policy_id = "policy.default" })).policy_descriptor
    assert.same({ "*", "{}", 1, 0 }, { default.mode, default.rules, default.schema_version,
      default.registered_at_unix_ms })
  end)

  it("lists by id, and a filter keeps the policies of every mode", function()
    register()
    register({ policy_id = "policy.a.any", mode = "*", rules = "" })
    register({ policy_id = "policy.b.else", mode = "ext.else.v1", rules = "" })
    assert.same({ "policy.a.any", "policy.b.else", "policy.default", "policy.std.majority", "policy.std.supermajority",
      "policy.std.unanimous", "policy.team.strict" }, ids())
    assert.same({ "policy.a.any", "policy.b.else", "policy.default" }, ids("ext.else.v1"))
    assert.same({ "policy.a.any", "policy.default" }, ids("ext.unheard.v1"))
  end)

  it("says NOT_FOUND for what it has not", function()
    local _, err = rig:call("ann", "GetPolicy", { policy_id = "policy.none" })
    assert.same({ NOT_FOUND, 'policy "policy.none" is not registered' }, { err.status, err.message })
  end)

  it("shortens ids that nobody could have", function()
    local long, shown = ("x"):rep(900000), '"' .. ("x"):rep(255) .. '..."'
    local _, err = rig:call("ann", "GetPolicy", { policy_id = long })
    assert.same({ NOT_FOUND, "policy " .. shown .. " is not registered" }, { err.status, err.message })
    assert.same({ ok = false, error = "policy " .. shown .. " is not found" },
      rig:call("boss", "UnregisterPolicy", { policy_id = long }))
    assert.equal("UnknownPolicyVersion: policy " .. shown .. " is not registered", rig:send("boss",
      client.start_envelope("policy-session-policy-x", { policy_version = long })).error.message)
  end)

  it("takes policies out, and says in band when it cannot", function()
    local function unregister(id) return assert(rig:call("boss", "UnregisterPolicy", { policy_id = id })) end
    register()
    assert.same({ ok = true, error = "" }, unregister("policy.team.strict"))
    local _, err = rig:call("ann", "GetPolicy", { policy_id = "policy.team.strict" })
    assert.equal(NOT_FOUND, err.status)
    assert.same({ ok = false, error = 'policy "policy.team.strict" is not found' }, unregister("policy.team.strict"))
    assert.same({ ok = false, error = 'policy "policy.default" is built in and cannot be unregistered' },
      unregister("policy.default"))
    assert.same({ ok = false, error = 'policy "policy.std.majority" is built in and cannot be unregistered' },
      unregister("policy.std.majority"))
  end)

  local REFUSED = {
    { "W33: ", { rules = "{oops" },
      "INVALID_POLICY_DEFINITION: rules: expected a JSON object: line 1, column 2: "
        .. "a member name in quotes is expected" },
    { "", { rules = '{"voting":{"threshold":"x"}}' },
      'INVALID_POLICY_DEFINITION: rules.voting.threshold: expected a number above 0 and at most 1, got "x"' },
    { "", { rules = '{"votin":{}}', schema_version = 3 },
      'INVALID_POLICY_DEFINITION: rules.votin: unknown rule (did you mean "voting"?)' },
    { "", { schema_version = 0 }, "INVALID_POLICY_DEFINITION: schema_version: expected 1 to 3, got 0" },
    { "", { policy_id = "policy.std.own" },
      'INVALID_POLICY_DEFINITION: policy_id: "policy.std.own" is reserved: policy.std.* belongs to the protocol' },
    { "", { mode = "*", rules = '{"voting":{"algorithm":"weighted"}}' },
      'INVALID_POLICY_DEFINITION: rules.voting.weights: is required while rules.voting.algorithm is "weighted" '
        .. "(macp.mode.decision.v1)" },
  }
  for _, case in ipairs(REFUSED) do
    it(case[1] .. "refuses in band: " .. case[3], function()
      assert.same({ ok = false, error = case[3] }, assert(register(case[2])))
      assert.equal(4, #ids())
    end)
  end

  it("tells a conflict apart from a mistake", function()
    assert.is_true(register().ok)
    assert.same({ ok = false, error = 'policy_id "policy.team.strict" is already registered' }, register())
    assert.is_true(rig:call("boss", "UnregisterPolicy", { policy_id = "policy.team.strict" }).ok)
    assert.same({ ok = false, error = 'policy_id "policy.team.strict" was already registered with another meaning, '
      .. "and an id never changes it: use a new one" }, register({ rules = "{}" }))
    assert.is_true(register().ok)
  end)

  it("refuses bytes that are no request, and text that is no UTF-8", function()
    local _, err = rig:call("boss", "RegisterPolicy", "\255\255")
    assert.equal(INTERNAL, err.status)
    assert.truthy(err.message:find("the request does not decode: ", 1, true), err.message)
    _, err = rig:call("boss", "RegisterPolicy", "\10\5\34\3{\255}")
    assert.equal(INTERNAL, err.status)
  end)

  it("sends every watcher the whole list at once and after each change, and nothing twice", function()
    local watch = rig:watch("ann", "WatchPolicies")
    local function next_ids()
      local out, response = {}, assert(watch:read())
      assert.is_true(response.observed_at_unix_ms > 0)
      for _, found in ipairs(response.descriptors) do
        if not found.policy_id:find("^policy%.std") then out[#out + 1] = found.policy_id end
      end
      return out
    end
    assert.same({ "policy.default" }, next_ids())
    register()
    assert.same({ "policy.default", "policy.team.strict" }, next_ids())
    register() -- refused: nothing changes
    register({ rules = "[" })
    rig:call("boss", "UnregisterPolicy", { policy_id = "policy.team.strict" })
    assert.same({ "policy.default" }, next_ids())
    register({ policy_id = "policy.team.late" })
    assert.same({ "policy.default", "policy.team.late" }, next_ids())
    watch:cancel()
  end)

  it("W35: never ends a watcher that reads slowly; it gets the latest list", function()
    local watch = rig:watch("ann", "WatchPolicies")
    assert(watch:read())
    local note = ("x"):rep(60000)
    for i = 1, 40 do
      assert.is_true(register({ policy_id = "policy.lag.p" .. i, rules = '{"_note":"' .. note .. '"}' }).ok)
    end
    local lists, last = 0, 0
    while last < 44 do
      last = #assert(watch:read()).descriptors
      lists = lists + 1
    end
    assert.is_true(lists <= 40)
    watch:cancel()
  end)
end)

describe("registered policies on disk", function()
  local rig

  after_each(function() rig:destroy() end)

  local function register(changes)
    return rig:call("boss", "RegisterPolicy", { policy_descriptor = descriptor(changes) })
  end

  it("are INTERNAL when the disk does not take them, and then nobody sees them", function()
    rig = assert(client.start())
    assert(fs.write(rig.dir .. "/policies", "a file in the way"))
    local _, err = register()
    assert.equal(INTERNAL, err.status)
    assert.truthy(err.message:find("StorageFailed: ", 1, true), err.message)
    assert.equal(4, #assert(rig:call("ann", "ListPolicies", {})).descriptors)
    assert(fs.remove(rig.dir .. "/policies"))
    assert.is_true(register().ok)
  end)

  it("are left out when they are damaged, which strict recovery does not accept", function()
    rig = assert(client.start())
    register()
    register({ policy_id = "policy.team.other" })
    local file = require("host.crypto").sha256_hex("policy.team.other") .. ".json"
    assert(fs.write(rig.dir .. "/policies/" .. file, "{"))
    rig = rig:again()
    local found = {}
    for i, one in ipairs(assert(rig:call("ann", "ListPolicies", { mode = DECISION })).descriptors) do
      found[i] = one.policy_id
    end
    assert.same({ "policy.default", "policy.std.majority", "policy.std.supermajority", "policy.std.unanimous",
      "policy.team.strict" }, found)
    rig:stop()
    local strict, err = client.start({ dir = rig.dir, env = { MACP_STRICT_RECOVERY = "1" } })
    assert.is_nil(strict)
    assert.equal("registered policies in " .. rig.dir .. "/policies: " .. file
      .. ": line 1, column 2: the text ends too early", err.message)
    rig = assert(client.start({ dir = rig.dir }))
  end)

  it("are not served while policies come from files, and are there again afterwards", function()
    rig = assert(client.start())
    register()
    local files = assert(fs.temp_dir("macp-policies-"))
    rig = rig:again({ MACP_POLICIES_DIR = files })
    local _, err = rig:call("ann", "GetPolicy", { policy_id = "policy.team.strict" })
    assert.equal(NOT_FOUND, err.status)
    rig = rig:again({})
    assert.is_table(rig:call("ann", "GetPolicy", { policy_id = "policy.team.strict" }))
    fs.remove_tree(files)
  end)

  it("are judged strictly when that is asked for", function()
    local needless = { mode = "macp.mode.quorum.v1", rules = '{"commitment":{"require_vote_quorum":false}}' }
    rig = assert(client.start({ env = { MACP_STRICT_POLICIES = "1" } }))
    assert.equal("INVALID_POLICY_DEFINITION: rules.commitment.require_vote_quorum: belongs to another mode",
      assert(register(needless)).error)
    rig = rig:again({})
    assert.is_true(register(needless).ok)
  end)
end)

describe("who may use the policy registry", function()
  local rig, dir

  setup(function()
    dir = assert(fs.temp_dir("macp-tokens-"))
    assert(fs.write(dir .. "/tokens.json", TOKENS))
    rig = assert(client.start({ env = { MACP_AUTH_TOKENS_FILE = dir .. "/tokens.json", MACP_MEMORY_ONLY = "1" } }))
  end)
  teardown(function()
    rig:destroy()
    fs.remove_tree(dir)
  end)

  local function status(token, method, request)
    local answer, err = rig:call(token, method, request)
    return answer and "answered" or err.status
  end

  it("is who may manage the registries, for changes; the right comes before the request", function()
    for _, method in ipairs({ "RegisterPolicy", "UnregisterPolicy" }) do
      assert.equal(UNAUTHENTICATED, status(nil, method, {}))
      assert.equal(UNAUTHENTICATED, status("wrong", method, {}))
      assert.equal(PERMISSION_DENIED, status("ann", method, {}))
      assert.equal(PERMISSION_DENIED, status("ann", method, "\255"))
    end
    assert.equal(INVALID_ARGUMENT, status("boss", "RegisterPolicy", {}))
    assert.equal("answered", status("boss", "UnregisterPolicy", {}))
  end)

  it("is everybody with a credential, for reading", function()
    for method, expected in pairs({ GetPolicy = NOT_FOUND, ListPolicies = "answered" }) do
      assert.equal(UNAUTHENTICATED, status(nil, method, {}))
      assert.equal(expected, status("ann", method, {}))
    end
  end)

  it("W34: is nobody without a credential, for watching", function()
    local watch = rig:watch(nil, "WatchPolicies")
    local _, err = watch:read()
    assert.equal(UNAUTHENTICATED, err.status)
    watch = rig:watch("ann", "WatchPolicies")
    assert.equal(4, #assert(watch:read()).descriptors)
    watch:cancel()
  end)
end)

describe("a runtime without any credentials configured", function()
  it("shows its policies to anybody who watches", function()
    local rig = assert(client.start({ env = { MACP_MEMORY_ONLY = "1" } }))
    local watch = rig:watch(nil, "WatchPolicies")
    assert.equal(4, #assert(watch:read()).descriptors)
    watch:cancel()
    rig:destroy()
  end)
end)

describe("policies from files", function()
  local dir

  before_each(function() dir = assert(fs.temp_dir("macp-policies-")) end)
  after_each(function() fs.remove_tree(dir) end)

  local function write(name, changes)
    local fields = { policy_id = "policy.file.x", mode = "*", rules = json.object({}), schema_version = 3 }
    for key, value in pairs(changes or {}) do fields[key] = value end
    assert(fs.write(dir .. "/" .. name, json.encode(fields)))
  end

  it("are served read-only, which Initialize says and the registry answers after authentication", function()
    write("x.json")
    local rig = assert(client.start({ env = { MACP_POLICIES_DIR = dir } }))
    local found = assert(rig:call("ann", "GetPolicy", { policy_id = "policy.file.x" })).policy_descriptor
    assert.equal(0, found.registered_at_unix_ms)
    local said = assert(rig:call(nil, "Initialize", { supported_protocol_versions = { "1.0" } })).capabilities
    assert.same({ register_policy = false, list_policies = true, list_changed = true }, said.policy_registry)
    for _, method in ipairs({ "RegisterPolicy", "UnregisterPolicy" }) do
      local _, err = rig:call("boss", method, {})
      assert.same({ FAILED_PRECONDITION,
        "the policies come from files (MACP_POLICIES_DIR): the registry is read-only" }, { err.status, err.message })
      _, err = rig:call(nil, method, {})
      assert.equal(UNAUTHENTICATED, err.status)
    end
    assert.is_true(rig:send("boss", client.start_envelope("policy-session-policy-x", {
      policy_version = "policy.file.x",
    })).ok)
    rig:destroy()
  end)

  it("W39: are followed while the runtime runs, and watchers hear of it", function()
    write("x.json")
    local rig = assert(client.start({ env = { MACP_POLICIES_DIR = dir } }))
    local watch = rig:watch("ann", "WatchPolicies")
    assert.equal(5, #assert(watch:read()).descriptors)
    write("y.json", { policy_id = "policy.file.y" })
    assert.equal(6, #assert(watch:read()).descriptors)
    assert(fs.write(dir .. "/bad.json", "{"))
    write("z.json", { policy_id = "policy.file.z" })
    require("host.task").sleep(100)
    assert.equal(6, #assert(rig:call("ann", "ListPolicies", {})).descriptors)
    assert(fs.remove(dir .. "/bad.json"))
    assert.equal(7, #assert(watch:read()).descriptors)
    watch:cancel()
    rig:destroy()
  end)

  it("are read again when told", function()
    local rig = assert(client.start({ env = { MACP_POLICIES_DIR = dir } }))
    rig.role.policies:close() -- nobody follows the directory
    write("x.json")
    rig.role:reload()
    assert.is_table(rig:call("ann", "GetPolicy", { policy_id = "policy.file.x" }))
    rig:destroy()
  end)

  it("stop the start when one is bad, by variable and file", function()
    write("x.json", { rules = { commitment = { authority = "nobody" } } })
    local rig, err = client.start({ env = { MACP_POLICIES_DIR = dir } })
    assert.is_nil(rig)
    local text = "MACP_POLICIES_DIR " .. dir .. "/x.json: rules.commitment.authority: expected one of"
    assert.equal(1, #err.message)
    assert.truthy(err.message[1]:find(text, 1, true), err.message[1])
  end)

  it("make the program itself end, with variable and file on standard error", function()
    local program = require("spec.support.program")
    write("x.json", { mode = "" })
    local env = { MACP_ALLOW_INSECURE = "1", MACP_MEMORY_ONLY = "1", MACP_BIND_ADDR = "127.0.0.1:0",
      MACP_POLICIES_DIR = dir }
    local proc = program.start({ args = { "runtime" }, env = env })
    local status = proc:wait()
    assert.equal(2, status.code)
    assert.truthy(proc:output():find("MACP_POLICIES_DIR " .. dir .. "/x.json: mode: expected a mode id", 1, true),
      proc:output())
  end)

  it("are only checked by a dry run", function()
    local program = require("spec.support.program")
    local function dry_run(env)
      env.MACP_POLICIES_DRY_RUN = "1"
      local proc = program.start({ args = { "runtime" }, env = env })
      local status = proc:wait()
      return status.code, proc:output()
    end
    write("x.json", { policy_id = "odd" })
    local code, text = dry_run({ MACP_POLICIES_DIR = dir })
    assert.equal(0, code)
    assert.equal("OK        " .. dir .. "/x.json: odd for *\nWARNING   " .. dir
      .. "/x.json: policy_id: ids are usually policy.<namespace>.<name>", text)
    write("y.json", { rules = { commitment = { authority = "nobody" } }, extra = 1 })
    write("z.json", { schema_version = 9 })
    code, text = dry_run({ MACP_POLICIES_DIR = dir })
    assert.equal(1, code)
    assert.truthy(text:find("OK        " .. dir .. "/x.json", 1, true), text)
    assert.truthy(text:find("REJECTED  " .. dir .. "/y.json: extra: unknown member", 1, true), text)
    assert.truthy(text:find("REJECTED  " .. dir .. "/z.json: schema_version: expected 1 to 3, got 9", 1, true), text)
    code, text = dry_run({ MACP_POLICIES_DIR = false })
    assert.equal(2, code)
    assert.equal("macp: MACP_POLICIES_DRY_RUN: set MACP_POLICIES_DIR as well", text)
  end)
end)
