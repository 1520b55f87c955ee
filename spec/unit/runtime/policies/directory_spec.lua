local fs = require("host.fs")
local log = require("host.log")

local directory = require("macp.runtime.policies.directory")
local json = require("macp.core.json")
local modes_registry = require("macp.modes.registry")
local policies = require("macp.runtime.policies")

local eventually = require("spec.support.eventually")

describe("a directory of policies", function()
  local modes, dir, registry

  setup(function()
    modes = modes_registry.new({ depth = "validate" })
    assert(modes:load_all())
  end)
  teardown(function() modes:close() end)

  before_each(function()
    dir = assert(fs.temp_dir("macp-policy-files-"))
    registry = policies.new({ modes = modes, now_ms = function() return 7 end })
  end)
  after_each(function() fs.remove_tree(dir) end)

  local function write(name, changes)
    local fields = { policy_id = "policy.file." .. name, mode = "*", rules = json.object({}), schema_version = 3 }
    for key, value in pairs(changes or {}) do fields[key] = value end
    assert(fs.write(dir .. "/" .. name .. ".json", json.encode(fields)))
  end

  local function served()
    local out = {}
    for _, policy in ipairs(registry:list()) do
      if policy.origin == "file" then out[#out + 1] = policy.policy_id end
    end
    return out
  end

  it("is served, read-only, without times", function()
    write("b")
    write("a")
    assert(fs.write(dir .. "/readme.txt", "not a policy"))
    assert(fs.mkdir_p(dir .. "/sub.json"))
    assert(directory.load(registry, dir))
    assert.same({ "policy.file.a", "policy.file.b" }, served())
    assert.is_true(registry.read_only)
    assert.equal(0, registry:get("policy.file.a").registered_at_ms)
  end)

  it("may be empty", function()
    assert(directory.load(registry, dir))
    assert.is_true(registry.read_only)
  end)

  it("is refused with every problem of every file, by variable and path", function()
    write("fine")
    write("again", { policy_id = "policy.file.fine" })
    write("default", { policy_id = "policy.default" })
    write("rules", { mode = "macp.mode.decision.v1", rules = { voting = { threshold = "x", algorith = "none" } } })
    assert(fs.write(dir .. "/text.json", '{\n  "policy_id": 1,\n}'))
    local loaded, problems = directory.load(registry, dir)
    assert.is_nil(loaded)
    local at = "MACP_POLICIES_DIR " .. dir .. "/"
    assert.same({
      at .. 'default.json: policy_id: "policy.default" is reserved for the policy that is built in',
      at .. 'fine.json: policy_id "policy.file.fine" is already registered by again.json',
      at .. 'rules.json: rules.voting.algorith: unknown rule (did you mean "algorithm"?)',
      at .. 'rules.json: rules.voting.threshold: expected a number above 0 and at most 1, got "x"',
      at .. "text.json: line 3, column 1: a member name in quotes is expected",
    }, problems)
    assert.same({}, served())
    assert.is_false(registry.read_only)
  end)

  it("is refused when it is not there", function()
    local _, problems = directory.load(registry, dir .. "/none")
    assert.equal(1, #problems)
    assert.truthy(problems[1]:find("MACP_POLICIES_DIR " .. dir .. "/none: ", 1, true), problems[1])
  end)

  it("is refused when it is more than clients can be sent", function()
    for i = 1, 50 do write("p" .. i, { rules = { _note = ("x"):rep(65000) } }) end
    local _, problems = directory.load(registry, dir)
    assert.equal(1, #problems)
    assert.truthy(problems[1]:find("54 policies of %d+ bytes, with those that are built in, are more than 1000 or"),
      problems[1])
  end)

  it("keeps what it has while a change is bad, tells it once, and takes the next good one", function()
    write("a", { mode = "macp.mode.decision.v1" })
    local opened = assert(directory.load(registry, dir))
    local told = {}
    local real = log.error
    log.error = function(event, fields) told[#told + 1] = event .. " " .. fields.message end
    write("b")
    write("a", { mode = "macp.mode.decision.v1", rules = { voting = { algorithm = "plurality" } } })
    opened:reload()
    opened:reload()
    log.error = real
    assert.same({ "policies.rejected MACP_POLICIES_DIR " .. dir .. '/a.json: policy_id: "policy.file.a" is served '
      .. "with another meaning, and an id never changes it: use a new one" }, told)
    assert.same({ "policy.file.a" }, served())
    local version = registry.version
    write("a", { mode = "macp.mode.decision.v1", description = "same rules", rules = { _n = 1, voting = {
      algorithm = "none" } } })
    opened:reload()
    assert.same({ "policy.file.a", "policy.file.b" }, served())
    assert.equal("same rules", registry:get("policy.file.a").description)
    assert.equal(version + 1, registry.version)
    opened:reload()
    assert.equal(version + 1, registry.version)
  end)

  it("does not let an id come back with another meaning", function()
    write("a")
    local opened = assert(directory.load(registry, dir))
    assert(fs.remove(dir .. "/a.json"))
    opened:reload()
    assert.same({}, served())
    write("a", { schema_version = 2 })
    opened:reload()
    assert.same({}, served())
    write("a")
    opened:reload()
    assert.same({ "policy.file.a" }, served())
  end)

  it("is followed, from what it was when it was read", function()
    local opened = assert(directory.load(registry, dir))
    write("meanwhile")
    opened:watch()
    eventually(function() return #served() == 1 end, 10000)
    write("late")
    eventually(function() return #served() == 2 end, 10000)
    opened:close()
  end)
end)
