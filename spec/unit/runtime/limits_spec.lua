local limits = require("macp.runtime.limits")

describe("rate limit", function()
  local now, limiter

  before_each(function()
    now = 1000000
    limiter = limits.new(3, function() return now end)
  end)

  local function take(times, key)
    local allowed = 0
    for _ = 1, times do
      if limiter:take(key or "ann") then allowed = allowed + 1 end
    end
    return allowed
  end

  it("allows so many attempts per minute and refuses the rest", function()
    assert.equal(3, take(5))
    assert.equal(0, take(5))
  end)

  it("keeps senders apart", function()
    assert.equal(3, take(5, "ann"))
    assert.equal(3, take(5, "bob"))
  end)

  it("frees a slot when it leaves the window, one by one", function()
    take(1)
    now = now + 30000
    take(2)
    assert.equal(0, take(1))
    now = now + 30000
    assert.equal(1, take(3))
    now = now + 30000
    assert.equal(2, take(3))
  end)

  it("does not count refused attempts", function()
    take(50)
    now = now + 60000
    assert.equal(3, take(5))
  end)

  it("forgets everything after a long pause", function()
    take(3)
    now = now + 10 * 60000
    assert.equal(3, take(4))
  end)

  it("W22: sweeps idle senders only", function()
    take(1, "ann")
    now = now + 59000
    take(1, "bob")
    now = now + 1000
    limiter:sweep()
    assert.is_nil(limiter.keys:get("ann"))
    assert.is_table(limiter.keys:get("bob"))
    assert.equal(1, limiter.keys.size)
  end)

  it("W22: takes the same memory for a sender whatever the limit and however much it sends", function()
    limiter = limits.new(1000000, function() return now end)
    local function cost()
      local bucket, count = limiter.keys:get("ann"), 0
      for _ in pairs(bucket) do count = count + 1 end
      return count
    end
    for _ = 1, 300 do
      take(100)
      now = now + 1000
    end
    assert.equal(62, cost()) -- 60 slots, the present slot's number and the sum
    assert.equal(5900, limiter.keys:get("ann").total - (limiter.keys:get("ann")[math.floor(now / 1000) % 60] or 0))
  end)

  it("W22: remembers so many senders and forgets who was quiet longest", function()
    limiter = limits.new(1, function() return now end, 3)
    for _, name in ipairs({ "ann", "bob", "cat", "dan" }) do assert.equal(1, take(2, name)) end
    assert.equal(3, limiter.keys.size)
    assert.equal(0, take(1, "bob"))
    assert.equal(1, take(1, "ann"))
    assert.equal(0, take(1, "bob"))
    for i = 1, 1000 do take(1, "stranger " .. i) end
    assert.equal(3, limiter.keys.size)
  end)

  it("tells whether the next attempt would be refused without counting it", function()
    assert.is_false(limiter:is_exhausted("ann"))
    assert.equal(0, limiter.keys.size)
    take(3)
    assert.is_true(limiter:is_exhausted("ann"))
    now = now + 60000
    assert.is_false(limiter:is_exhausted("ann"))
    assert.equal(3, take(5))
  end)
end)
