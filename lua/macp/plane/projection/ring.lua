-- A list that keeps its newest `cap` items; adding costs the same however many there were.

---@class macp.plane.Ring
---@field cap integer
---@field total integer items ever added
local Ring = {}
Ring.__index = Ring

local M = {}

---@param cap integer
---@param items any[]|nil oldest first
---@return macp.plane.Ring
function M.new(cap, items)
  local ring = setmetatable({ cap = cap, total = 0 }, Ring)
  for _, item in ipairs(items or {}) do ring:push(item) end
  return ring
end

---Adds an item; returns the one that fell out, if any.
function Ring:push(item)
  local slot = self.total % self.cap + 1
  local evicted = self[slot]
  self[slot] = item
  self.total = self.total + 1
  return evicted
end

---The items, oldest first.
---@return any[]
function Ring:items()
  local total, cap = self.total, self.cap
  local out, count = {}, math.min(total, cap)
  local start = total - count
  for i = 1, count do out[i] = self[(start + i - 1) % cap + 1] end
  return out
end

return M
