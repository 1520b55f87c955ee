local deadlines = require("macp.runtime.deadlines")

local function drain(heap)
  local order = {}
  while heap:first() do
    local item, at = heap:first()
    order[#order + 1] = at
    heap:set(item, nil)
  end
  return order
end

describe("deadlines", function()
  it("give the earliest first, whatever the order of adding", function()
    local heap = deadlines.new()
    for _, at in ipairs({ 5, 3, 9, 1, 7, 3 }) do heap:set({}, at) end
    assert.same({ 1, 3, 3, 5, 7, 9 }, drain(heap))
    assert.equal(0, heap.count)
  end)

  it("follow an item that moves in either direction", function()
    local heap = deadlines.new()
    local a, b, c = {}, {}, {}
    heap:set(a, 1)
    heap:set(b, 2)
    heap:set(c, 3)
    heap:set(a, 10)
    assert.equal(b, heap:first())
    heap:set(c, 0)
    assert.equal(c, heap:first())
    heap:set(c, nil)
    heap:set(c, nil)
    assert.same({ 2, 10 }, drain(heap))
  end)

  it("stay sorted under random moves and removals", function()
    local heap, items, seed = deadlines.new(), {}, 7
    local function random(n)
      seed = (seed * 1103515245 + 12345) % 2147483648
      return seed % n + 1
    end
    for i = 1, 200 do
      items[i] = {}
      heap:set(items[i], random(1000))
    end
    for _ = 1, 2000 do
      local item = items[random(200)]
      heap:set(item, random(4) > 1 and random(1000) or nil)
    end
    local expected = {}
    for _, item in ipairs(items) do expected[#expected + 1] = item.heap_at end
    table.sort(expected)
    assert.same(expected, drain(heap))
  end)
end)
