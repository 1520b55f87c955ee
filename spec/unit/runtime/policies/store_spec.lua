local fs = require("host.fs")

local descriptor = require("macp.runtime.policies.descriptor")
local store = require("macp.runtime.policies.store")

local policy = require("spec.support.stored_policy")

describe("stored policies", function()
  local dir, place

  before_each(function()
    dir = assert(fs.temp_dir("macp-policy-store-"))
    place = store.new(dir .. "/policies")
  end)
  after_each(function() fs.remove_tree(dir) end)

  local function ids()
    local found, out = assert(place:load()), {}
    for _, one in ipairs(found.policies) do out[#out + 1] = one.policy_id end
    table.sort(out)
    return out, found
  end

  it("are none before the first", function() assert.same({}, (ids())) end)

  it("come back as they were, whatever their id looks like", function()
    local strange = "../../etc/passwd \"x\" {}"
    assert(place:put(policy("policy.a.b", { voting = { threshold = 0.6666666666666666 } })))
    assert(place:put(policy(strange)))
    local found, all = ids()
    assert.same({ strange, "policy.a.b" }, found)
    for _, one in ipairs(all.policies) do
      if one.policy_id == "policy.a.b" then
        assert.equal('{"voting":{"threshold":0.6666666666666666}}', one.rules_json)
        assert.equal(1790000000000, one.registered_at_ms)
        assert.equal(3, one.schema_version)
      end
    end
    assert.equal(2, #assert(fs.list(dir .. "/policies")))
  end)

  it("hold the largest and deepest rules that are accepted", function()
    local deep = ('{"a":'):rep(31) .. "{}" .. ("}"):rep(31)
    local made = assert(descriptor.of_message({ policy_id = "policy.a.deep", mode = "*", description = "", rules = deep,
      schema_version = 1 }))
    assert(place:put(made))
    assert(place:put(policy("policy.a.large", { _x = ('"'):rep(32000) })))
    assert.same({ "policy.a.deep", "policy.a.large" }, (ids()))
  end)

  it("leave a tombstone", function()
    assert(place:put(policy("policy.a.b")))
    assert(place:bury({ policy_id = "policy.a.b", fingerprint = "f", unregistered_at_ms = 5 }))
    local found, all = ids()
    assert.same({}, found)
    assert.same({ { policy_id = "policy.a.b", fingerprint = "f", unregistered_at_ms = 5 } }, all.tombstones)
    assert(place:forget("policy.a.b"))
    assert.same({}, select(2, ids()).tombstones)
  end)

  it("are told apart from damaged files, and leftovers of a crash are removed", function()
    assert(place:put(policy("policy.a.b")))
    local base = dir .. "/policies/" .. ("ab"):rep(32) .. ".json"
    assert(fs.write(base, '{"policy_id":"policy.a.c",'))
    assert(fs.write(base .. ".Xy12Zq", "half"))
    local found, all = ids()
    assert.same({ "policy.a.b" }, found)
    assert.equal(1, #all.problems)
    assert.equal(("ab"):rep(32) .. ".json", all.problems[1].file)
    assert.truthy(all.problems[1].text:find("line 1, column 27", 1, true), all.problems[1].text)
    assert.is_nil(fs.stat(base .. ".Xy12Zq"))
  end)

  it("tell when the disk does not take them", function()
    assert(fs.write(dir .. "/policies", "a file in the way"))
    local ok, err = place:put(policy("policy.a.b"))
    assert.is_nil(ok)
    assert.is_string(err.message)
  end)
end)
