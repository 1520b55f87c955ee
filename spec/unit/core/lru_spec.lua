local lru = require("macp.core.lru")

describe("lru", function()
  it("forgets what was used least recently", function()
    local evicted = {}
    local cache = lru.new(2, function(key, value) evicted[#evicted + 1] = key .. "=" .. value end)
    cache:set("a", 1)
    cache:set("b", 2)
    assert.equal(1, cache:get("a"))
    cache:set("c", 3)
    assert.is_nil(cache:get("b"))
    assert.equal(1, cache:get("a"))
    assert.same({ "b=2" }, evicted)
    assert.equal(2, cache.size)
  end)

  it("refreshes an entry that is set again", function()
    local cache = lru.new(2)
    cache:set("a", 1)
    cache:set("b", 2)
    cache:set("a", 9)
    cache:set("c", 3)
    assert.same({ 9, nil, 3 }, { cache:get("a"), cache:get("b"), cache:get("c") })
  end)

  it("removes entries", function()
    local cache = lru.new(1)
    cache:set("a", 1)
    assert.equal(1, cache:remove("a"))
    assert.is_nil(cache:remove("a"))
    assert.equal(0, cache.size)
    cache:set("b", 2)
    assert.equal(2, cache:get("b"))
  end)

  it("agrees with a slow model under random use", function()
    math.randomseed(7)
    local cache, order = lru.new(5), {}
    local function touch(key)
      for i, other in ipairs(order) do
        if other == key then table.remove(order, i) break end
      end
      table.insert(order, key)
      if #order > 5 then table.remove(order, 1) end
    end
    for _ = 1, 2000 do
      local key = math.random(12)
      if math.random() < 0.5 then
        cache:set(key, key)
        touch(key)
      elseif cache:get(key) then
        touch(key)
      end
      assert.equal(#order, cache.size)
    end
    for _, key in ipairs(order) do assert.equal(key, cache.entries[key].value) end
  end)
end)
