-- Random numbers that follow from a seed, whatever else in the process draws some.

local bit = require("bit")

local Random = {}
Random.__index = Random

local M = {}

---@param seed integer
function M.new(seed)
  local random = setmetatable({ state = bit.tobit(seed * 2654435761 % 4294967296 + 88172645) }, Random)
  for _ = 1, 4 do random:int(1, 2) end
  return random
end

---An integer of first..last.
function Random:int(first, last)
  local x = self.state
  x = bit.bxor(x, bit.lshift(x, 13))
  x = bit.bxor(x, bit.rshift(x, 17))
  x = bit.bxor(x, bit.lshift(x, 5))
  if x == 0 then x = 1 end
  self.state = x
  return first + x % (last - first + 1)
end

---true in `percent` of 100 cases.
function Random:chance(percent) return self:int(1, 100) <= percent end

---One item of a list.
function Random:pick(list) return list[self:int(1, #list)] end

return M
