local limiter = require("macp.core.limiter")
local tables = require("macp.core.tables")

local random = require("spec.support.random")

describe("limiter", function()
  local now

  local function new(opts)
    now = 0
    return limiter.new({
      window_ms = 1000, limit = 2, max_keys = opts and opts.max_keys, now_ms = function() return now end,
    })
  end

  it("allows `limit` uses per window and key", function()
    local limits = new()
    assert.same({ true, 1, 1000 }, { limits:take("a") })
    now = 400
    assert.same({ true, 0, 600 }, { limits:take("a") })
    assert.same({ false, 0, 600 }, { limits:take("a") })
    assert.same({ true, 1, 1000 }, { limits:take("b") })
    now = 1000
    assert.same({ true, 1, 1000 }, { limits:take("a") })
  end)

  it("keeps a bounded number of keys", function()
    local limits = new({ max_keys = 10 })
    for i = 1, 1000 do
      now = i
      limits:take("key" .. i)
      for _, name in ipairs({ "slots", "keys", "counts", "ends" }) do
        assert.is_true(tables.count(limits[name]) <= 10, name)
      end
    end
    assert.equal(10, limits.size)
  end)

  it("forgets ended windows before live ones", function()
    local limits = new({ max_keys = 2 })
    limits:take("old")
    now = 500
    limits:take("live")
    limits:take("live")
    now = 1100
    limits:take("new")
    assert.is_false((limits:take("live")))
  end)

  it("does not let a flood of keys reset the count of one that has used up what it may", function()
    local limits = new({ max_keys = 100 })
    for _ = 1, 2 do assert.is_true((limits:take("greedy"))) end
    assert.is_true((limits:take("half"))) -- fewer uses: goes before
    for i = 1, 100000 do assert.is_true((limits:take("flood" .. i))) end
    assert.is_false((limits:take("greedy")))
    for i = 1, 100000 do limits:take("flood" .. i) end
    assert.is_false((limits:take("greedy")))
    now = 1000
    assert.is_true((limits:take("greedy")))
  end)

  it("does not let keys that are used again and again drive out the busier one either", function()
    now = 0
    local limits = limiter.new({ window_ms = 1000, limit = 100, max_keys = 50, now_ms = function() return now end })
    for _ = 1, 101 do limits:take("greedy") end
    for _ = 1, 60 do
      for i = 1, 49 do limits:take("flood" .. i) end
    end
    for i = 1, 5000 do limits:take("more" .. i) end
    assert.is_false((limits:take("greedy")))
  end)

  it("counts like a table without bounds as long as there is room", function()
    local dice, known = random.new(5), {}
    now = 0
    local limits = limiter.new({ window_ms = 1000, limit = 7, max_keys = 40, now_ms = function() return now end })
    for _ = 1, 20000 do
      now = now + dice:int(0, 5)
      local key = "k" .. dice:int(1, 40)
      local entry = known[key]
      if entry == nil or entry.ends <= now then
        entry = { count = 0, ends = now + 1000 }
        known[key] = entry
      end
      entry.count = entry.count + 1
      assert.same({ entry.count <= 7, math.max(0, 7 - entry.count), entry.ends - now }, { limits:take(key) })
    end
  end)

  it("takes the same time however many keys there are", function()
    local function cost(keys)
      local limits = new({ max_keys = keys })
      local began = os.clock()
      for i = 1, 100000 do limits:take(i) end
      return os.clock() - began
    end
    cost(100)
    assert.is_true(cost(10000) < 50 * (cost(100) + 0.001))
  end)
end)
