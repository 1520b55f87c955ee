local host_journal = require("host.journal")

local journal_store = require("macp.runtime.policies.journal_store")

local policy = require("spec.support.stored_policy")

describe("policies stored in a journal", function()
  local journal, place

  before_each(function()
    journal = assert(host_journal.open({ backend = "memory" }))
    place = journal_store.new(journal, "here")
  end)
  after_each(function() journal:close() end)

  local function ids()
    local found, out = assert(place:load()), {}
    for i, one in ipairs(found.policies) do out[i] = one.policy_id end
    table.sort(out)
    return out, found
  end

  it("are none before the first", function() assert.same({}, (ids())) end)

  it("come back as they were, whatever their id looks like, and whatever lies beside them", function()
    local strange = ("../x\"{}"):rep(30)
    assert(place:put(policy("policy.a.b", { voting = { threshold = 0.6666666666666666 } })))
    assert(place:put(policy("policy.a.b", { voting = { threshold = 0.5 } })))
    assert(place:put(policy(strange)))
    assert(journal:replace("registered", { "{}" }))
    assert(journal:replace("revision:sha256:00", { "{}" }))
    local found, all = ids()
    assert.same({ strange, "policy.a.b" }, found)
    for _, one in ipairs(all.policies) do
      if one.policy_id == "policy.a.b" then
        assert.equal('{"voting":{"threshold":0.5}}', one.rules_json)
        assert.equal(1790000000000, one.registered_at_ms)
        assert.equal(3, one.schema_version)
      end
    end
    assert.same({}, all.problems)
  end)

  it("leave a tombstone", function()
    assert(place:put(policy("policy.a.b")))
    assert(place:bury({ policy_id = "policy.a.b", fingerprint = "f", unregistered_at_ms = 5 }))
    local found, all = ids()
    assert.same({}, found)
    assert.same({ { policy_id = "policy.a.b", fingerprint = "f", unregistered_at_ms = 5 } }, all.tombstones)
    assert(place:forget("policy.a.b"))
    assert.same({}, select(2, ids()).tombstones)
    assert.same({}, journal:keys())
  end)

  it("are told apart from records that say nothing", function()
    assert(place:put(policy("policy.a.b")))
    assert(journal:replace("policy:" .. ("ab"):rep(32), { '{"policy_id":"policy.a.c",' }))
    local found, all = ids()
    assert.same({ "policy.a.b" }, found)
    assert.equal(1, #all.problems)
    assert.equal("policy:" .. ("ab"):rep(32), all.problems[1].file)
    assert.truthy(all.problems[1].text:find("line 1, column 27", 1, true), all.problems[1].text)
  end)

  it("tell when the journal does not take or give them", function()
    assert(place:put(policy("policy.a.b")))
    local real = journal
    local failing = setmetatable({
      replace = function() return nil, { code = "UNAVAILABLE", message = "no server" } end,
      read = function() return nil, { code = "UNAVAILABLE", message = "no server" } end,
    }, { __index = function(_, name) return function(_, ...) return real[name](real, ...) end end })
    place = journal_store.new(failing, "here")
    local ok, err = place:put(policy("policy.a.c"))
    assert.is_nil(ok)
    assert.equal("no server", err.message)
    ok, err = place:load()
    assert.is_nil(ok)
    assert.equal("no server", err.message)
  end)
end)
