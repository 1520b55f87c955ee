-- The `pairs` of the program; see host/prelude/pairs.lua.

local KEYS, ROUNDS = 9, 2000

describe("pairs", function()
  it("walks like the built-in one, which no compiled loop may do", function()
    local step, map, first = pairs({ a = 1 })
    assert.not_equal(next, step)
    assert.same({ a = 1 }, map)
    assert.is_nil(first)
    local seen = {}
    for key, value in pairs({ 10, 20, x = "y" }) do seen[key] = value end
    assert.same({ 10, 20, x = "y" }, seen)
    local ok, message = pcall(pairs, nil)
    assert.is_false(ok)
    assert.equal("bad argument #1 to 'pairs' (table expected, got nil)", message)
  end)

  it("gives every key with its value in coroutines whose stacks grow", function()
    local map = {}
    for i = 1, KEYS do map["key" .. i] = { i } end
    local function walk(depth)
      local sum = 0
      for key, value in pairs(map) do
        assert(key == "key" .. value[1], key)
        sum = sum + value[1] + (depth > 0 and key == "key5" and walk(depth - 1) or 0)
      end
      return sum
    end
    for round = 1, ROUNDS do
      local depth = round % 10
      assert.equal((depth + 1) * KEYS * (KEYS + 1) / 2, coroutine.wrap(walk)(depth))
    end
  end)
end)
