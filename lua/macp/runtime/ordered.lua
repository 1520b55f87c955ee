-- Strings in ascending byte order, for lists that are read in pages: adding, removing and finding the next one cost
-- little however many there are. Sorted blocks of bounded size, in order.

local MAX_BLOCK = 512

local Ordered = {}
Ordered.__index = Ordered

local M = {}

---A set that holds nothing.
function M.new() return setmetatable({ blocks = {}, count = 0 }, Ordered) end

-- The last block that begins at or before a string; 1 when none does.
local function block_of(blocks, text)
  local low, high = 1, #blocks
  while low < high do
    local middle = math.ceil((low + high) / 2)
    if blocks[middle][1] <= text then low = middle else high = middle - 1 end
  end
  return low
end

-- The first position in a block whose string is at or behind a string.
local function position_of(block, text)
  local low, high = 1, #block + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    if block[middle] < text then low = middle + 1 else high = middle end
  end
  return low
end

local function split(blocks, at)
  local block, right = blocks[at], {}
  local middle = math.floor(#block / 2)
  for i = middle + 1, #block do right[#right + 1] = block[i] end
  for i = #block, middle + 1, -1 do block[i] = nil end
  table.insert(blocks, at + 1, right)
end

---Adds a string; one that is there already stays once.
function Ordered:add(text)
  local blocks = self.blocks
  if blocks[1] == nil then
    blocks[1], self.count = { text }, 1
    return
  end
  local at = block_of(blocks, text)
  local block = blocks[at]
  local position = position_of(block, text)
  if block[position] == text then return end
  table.insert(block, position, text)
  self.count = self.count + 1
  if #block > MAX_BLOCK then split(blocks, at) end
end

---Takes a string out; one that is not there is ignored.
function Ordered:remove(text)
  local blocks = self.blocks
  if blocks[1] == nil then return end
  local at = block_of(blocks, text)
  local block = blocks[at]
  local position = position_of(block, text)
  if block[position] ~= text then return end
  table.remove(block, position)
  self.count = self.count - 1
  if block[1] == nil then table.remove(blocks, at) end
end

---The first string behind another one, which need not be there; nil at the end.
function Ordered:after(text)
  local blocks = self.blocks
  if blocks[1] == nil then return nil end
  local at = block_of(blocks, text)
  local block = blocks[at]
  local position = position_of(block, text)
  if block[position] == text then position = position + 1 end
  if block[position] then return block[position] end
  local following = blocks[at + 1]
  return following and following[1]
end

return M
