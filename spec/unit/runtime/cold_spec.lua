local cold = require("macp.runtime.cold")

describe("sessions kept for readers", function()
  it("are bounded in number", function()
    local kept = cold.new()
    for i = 1, 300 do kept:add({ id = "s" .. i, ordinals = 5 }) end
    assert.is_nil(kept:get("s1"))
    assert.equal("s300", kept:get("s300").id)
    assert.equal(0, kept.ids)
  end)

  it("are bounded together in the message ids they hold", function()
    local kept = cold.new(100)
    local first = { id = "a", ordinals = 60 }
    kept:add(first)
    first.ids = {}
    kept:weigh(first)
    assert.equal(60, kept.ids)
    kept:add({ id = "b", ordinals = 60, ids = {} })
    assert.is_nil(kept:get("a"))
    assert.equal(60, kept.ids)
    kept:remove("b")
    assert.equal(0, kept.ids)
    kept:weigh(first) -- not kept any more: nothing to count
    assert.equal(0, kept.ids)
  end)

  it("keep the one that is asked for, however large", function()
    local kept = cold.new(100)
    kept:add({ id = "a", ordinals = 1000, ids = {} })
    assert.equal("a", kept:get("a").id)
  end)
end)
