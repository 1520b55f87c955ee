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

  it("sweeps idle senders only", function()
    take(1, "ann")
    now = now + 59000
    take(1, "bob")
    now = now + 1000
    limiter:sweep()
    assert.is_nil(limiter.keys.ann)
    assert.is_table(limiter.keys.bob)
  end)
end)
