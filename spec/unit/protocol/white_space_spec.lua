local white_space = require("macp.protocol.white_space")

-- Every character of Unicode's White_Space.
local function spaces()
  local list = { 0x20, 0x85, 0xA0, 0x1680, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000 }
  for code = 0x09, 0x0D do list[#list + 1] = code end
  for code = 0x2000, 0x200A do list[#list + 1] = code end
  return list
end

local function utf8(code)
  if code < 0x80 then return string.char(code) end
  if code < 0x800 then return string.char(0xC0 + math.floor(code / 64), 0x80 + code % 64) end
  return string.char(0xE0 + math.floor(code / 4096), 0x80 + math.floor(code / 64) % 64, 0x80 + code % 64)
end

describe("white space", function()
  it("is Unicode's, wherever it stands", function()
    assert.equal(25, #spaces())
    for _, code in ipairs(spaces()) do
      local space = utf8(code)
      assert.is_true(white_space.is_blank(space .. " " .. space), string.format("U+%04X", code))
      assert.is_false(white_space.is_blank(space .. "a"))
      assert.same({ true, true, false }, { white_space.is_around(space .. "a"), white_space.is_around("a" .. space),
        white_space.is_around("a" .. space .. "b") })
    end
  end)

  it("is nothing else: neighbours, marks without width, other languages", function()
    for _, code in ipairs({ 0x84, 0x86, 0x9F, 0xA1, 0x180E, 0x1FFF, 0x200B, 0x200D, 0x2027, 0x202E, 0x2030, 0x2060,
      0x3001, 0xFEFF, 0xE9, 0x4E2D }) do
      local text = utf8(code)
      assert.is_false(white_space.is_blank(text), string.format("U+%04X", code))
      assert.is_false(white_space.is_around(text))
    end
    assert.is_true(white_space.is_blank(""))
    assert.is_false(white_space.is_around(""))
  end)
end)
