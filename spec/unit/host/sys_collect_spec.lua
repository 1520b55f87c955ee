local sys = require("host.sys")

local PIECE, PIECES = 262144, 200

describe("the collector's share for large pieces", function()
  it("is done at once, and leaves less behind than was taken", function()
    local most, least = 0, math.huge
    for i = 1, PIECES do
      local piece = ("x"):rep(PIECE) .. i
      assert.equal(PIECE, #piece - #tostring(i))
      sys.collect_for(2 * PIECE)
      local bytes = sys.lua_bytes()
      most, least = math.max(most, bytes), math.min(least, bytes)
    end
    assert.is_true(most - least < PIECE * PIECES, most - least .. " bytes")
  end)

  it("is nothing for nothing, and refuses what is no number of bytes", function()
    sys.collect_for(0)
    assert.is_false((pcall(sys.collect_for, -1)))
    assert.is_false((pcall(sys.collect_for, "many")))
    assert.is_false((pcall(sys.collect_for, 2 ^ 31)))
  end)
end)
