local ordered = require("macp.runtime.ordered")

local function all(list)
  local found, text = {}, list:after("")
  while text do
    found[#found + 1] = text
    text = list:after(text)
  end
  return found
end

describe("ordered strings", function()
  it("come back in byte order, each once", function()
    local list = ordered.new()
    assert.is_nil(list:after(""))
    for _, text in ipairs({ "b", "a", "c", "b", "B" }) do list:add(text) end
    assert.same({ "B", "a", "b", "c" }, all(list))
    assert.equal(4, list.count)
    assert.equal("c", list:after("bb"))
    assert.is_nil(list:after("c"))
  end)

  it("stay in order over many blocks while some are added and removed", function()
    local list, expected = ordered.new(), {}
    for i = 1, 5000 do list:add(string.format("%06d", i * 7919 % 10007)) end
    for i = 1, 5000, 3 do list:remove(string.format("%06d", i * 7919 % 10007)) end
    for i = 1, 5000 do
      if i % 3 ~= 1 then expected[#expected + 1] = string.format("%06d", i * 7919 % 10007) end
    end
    table.sort(expected)
    assert.same(expected, all(list))
    assert.equal(#expected, list.count)
    for _, text in ipairs(expected) do list:remove(text) end
    assert.same({}, all(list))
    list:remove("x")
    list:add("x")
    assert.same({ "x" }, all(list))
  end)
end)
