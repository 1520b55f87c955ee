-- A queue of things that are due at some time, the earliest first: a binary heap.

---@class macp.DueQueue
---@field n integer how many there are
local DueQueue = {}
DueQueue.__index = DueQueue

local M = {}

---@return macp.DueQueue
function M.new() return setmetatable({ n = 0, times = {}, items = {} }, DueQueue) end

---Adds an item; the same one may be in the queue several times.
---@param due number
---@param item any
function DueQueue:push(due, item)
  local times, items = self.times, self.items
  local at = self.n + 1
  self.n = at
  while at > 1 do
    local parent = (at - at % 2) / 2
    if times[parent] <= due then break end
    times[at], items[at] = times[parent], items[parent]
    at = parent
  end
  times[at], items[at] = due, item
end

---When the earliest is due, and what it is; nil when there is none.
---@return number|nil due
---@return any item
function DueQueue:first() return self.times[1], self.items[1] end

---Takes the earliest away.
---@return number|nil due
---@return any item
function DueQueue:pop()
  local times, items, n = self.times, self.items, self.n
  if n == 0 then return nil end
  local first_due, first = times[1], items[1]
  local due, item = times[n], items[n]
  times[n], items[n] = nil, nil
  n = n - 1
  self.n = n
  if n == 0 then return first_due, first end
  local at = 1
  while true do
    local child = at * 2
    if child > n then break end
    if child < n and times[child + 1] < times[child] then child = child + 1 end
    if times[child] >= due then break end
    times[at], items[at] = times[child], items[child]
    at = child
  end
  times[at], items[at] = due, item
  return first_due, first
end

return M
