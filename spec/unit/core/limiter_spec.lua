local limiter = require("macp.core.limiter")

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
      local count = 0
      for _ in pairs(limits.counts) do count = count + 1 end
      assert.is_true(count <= 10)
    end
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
end)
