local sampler = require("macp.telemetry.sampler")
local trace_context = require("macp.telemetry.trace_context")

local LOW = ("a"):rep(16) .. ("0"):rep(15) .. "1"
local HIGH = ("0"):rep(16) .. ("f"):rep(16)

describe("samplers", function()
  it("record everything or nothing", function()
    assert.is_true(sampler.new("always_on", 1)(HIGH))
    assert.is_false(sampler.new("always_off", 1)(LOW))
  end)

  it("record a share, the same traces in every program", function()
    local half = sampler.new("traceidratio", 0.5)
    assert.is_true(half(LOW))
    assert.is_false(half(HIGH))
    assert.is_false(half(("0"):rep(16) .. "8" .. ("0"):rep(15)))
    assert.is_true(half(("0"):rep(16) .. "7" .. ("f"):rep(15)))
    assert.is_true(sampler.new("traceidratio", 1)(HIGH))
    assert.is_false(sampler.new("traceidratio", 0)(LOW))
  end)

  it("hit the share", function()
    local tenth, count = sampler.new("traceidratio", 0.1), 0
    for _ = 1, 4000 do
      if tenth(trace_context.new_trace_id()) then count = count + 1 end
    end
    assert.is_true(count > 280 and count < 520, count)
  end)

  it("follow the caller's decision when they are based on it", function()
    for name, alone in pairs({ parentbased_always_on = true, parentbased_always_off = false,
      parentbased_traceidratio = false }) do
      local decide = sampler.new(name, 0)
      assert.is_true(decide(LOW, { sampled = true }), name)
      assert.is_false(decide(LOW, { sampled = false }), name)
      assert.equal(alone, decide(LOW), name)
    end
  end)

  it("do not ask the caller otherwise", function()
    assert.is_true(sampler.new("always_on", 1)(LOW, { sampled = false }))
  end)
end)
