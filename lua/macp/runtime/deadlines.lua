-- Things that need attention at a time: a binary heap in which every item knows its place, so that moving or
-- removing one costs a logarithm and nothing is ever scanned.

local floor = math.floor

local Deadlines = {}
Deadlines.__index = Deadlines

local M = {}

---Items are tables; the fields heap_at and heap_index of an item belong to the heap it is in.
function M.new() return setmetatable({ count = 0 }, Deadlines) end

local function place(heap, item, index)
  heap[index] = item
  item.heap_index = index
end

local function rise(heap, item, index)
  local at = item.heap_at
  while index > 1 do
    local parent = floor(index / 2)
    local above = heap[parent]
    if above.heap_at <= at then break end
    place(heap, above, index)
    index = parent
  end
  place(heap, item, index)
end

local function sink(heap, item, index)
  local at, count = item.heap_at, heap.count
  while true do
    local child = index * 2
    if child > count then break end
    if child < count and heap[child + 1].heap_at < heap[child].heap_at then child = child + 1 end
    if heap[child].heap_at >= at then break end
    place(heap, heap[child], index)
    index = child
  end
  place(heap, item, index)
end

---Sets when the item is due; nil takes it out.
function Deadlines:set(item, at)
  local index = item.heap_index
  if at == nil then
    if index then self:remove(item) end
    return
  end
  if index == nil then
    self.count = self.count + 1
    item.heap_at = at
    rise(self, item, self.count)
    return
  end
  local before = item.heap_at
  if at == before then return end
  item.heap_at = at
  if at < before then rise(self, item, index) else sink(self, item, index) end
end

function Deadlines:remove(item)
  local index, last = item.heap_index, self[self.count]
  self[self.count] = nil
  self.count = self.count - 1
  item.heap_index, item.heap_at = nil, nil
  if last == item then return end
  local parent = floor(index / 2)
  if index > 1 and self[parent].heap_at > last.heap_at then
    rise(self, last, index)
  else
    sink(self, last, index)
  end
end

---The earliest item and its time, or nil.
function Deadlines:first()
  local item = self[1]
  if item == nil then return nil end
  return item, item.heap_at
end

return M
