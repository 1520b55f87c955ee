local tables = require("macp.core.tables")

describe("tables", function()
  it("sorts keys of any type", function()
    assert.same({ 1, 2, "a", "b" }, tables.sorted_keys({ b = 1, a = 1, [2] = 1, [1] = 1 }))
  end)

  it("copies deeply with marks", function()
    local mark = {}
    local source = { list = setmetatable({ { n = 1 } }, mark) }
    local copy = tables.deep_copy(source)
    source.list[1].n = 2
    assert.equal(1, copy.list[1].n)
    assert.equal(mark, getmetatable(copy.list))
  end)

  local comparisons = {
    { { a = { 1 } }, { a = { 1 } }, true }, { { a = 1 }, { a = 1, b = 2 }, false },
    { { a = 1, b = 2 }, { a = 1 }, false },
    { 1, 1, true }, { 1, "1", false }, { {}, {}, true }, { { a = {} }, { a = 1 }, false },
  }
  for i, case in ipairs(comparisons) do
    it("compares, case " .. i, function() assert.equal(case[3], tables.equal(case[1], case[2])) end)
  end

  it("assigns, counts and makes sets", function()
    assert.same({ a = 1, b = 3 }, tables.assign({ a = 1, b = 2 }, { b = 3 }))
    assert.equal(2, tables.count({ a = 1, b = 2 }))
    assert.same({ x = true }, tables.set({ "x" }))
  end)
end)
