-- Rate limits: so many accepted attempts per sender and minute, counted in 60 slots of one second.

local floor, max = math.floor, math.max

local SLOTS = 60
local SLOT_MS = 1000

local Limiter = {}
Limiter.__index = Limiter

local M = {}

---@param limit integer attempts per minute and key
---@param mono_ms fun(): number monotonic clock
function M.new(limit, mono_ms) return setmetatable({ limit = limit, mono_ms = mono_ms, keys = {} }, Limiter) end

-- Forgets the slots that have left the window.
local function advance(bucket, slot)
  local first = max(bucket.slot + 1, slot - SLOTS + 1)
  for i = first, slot do
    local at = i % SLOTS
    local old = bucket[at]
    if old then
      bucket.total = bucket.total - old
      bucket[at] = nil
    end
  end
  bucket.slot = slot
end

---Counts one attempt of the key. A refused attempt is not counted.
---@return boolean allowed
function Limiter:take(key)
  local slot = floor(self.mono_ms() / SLOT_MS)
  local bucket = self.keys[key]
  if bucket == nil then
    bucket = { slot = slot, total = 0 }
    self.keys[key] = bucket
  elseif slot > bucket.slot then
    advance(bucket, slot)
  end
  if bucket.total >= self.limit then return false end
  local at = slot % SLOTS
  bucket[at] = (bucket[at] or 0) + 1
  bucket.total = bucket.total + 1
  return true
end

---Forgets keys that have been quiet for a whole window.
function Limiter:sweep()
  local slot = floor(self.mono_ms() / SLOT_MS)
  for key, bucket in pairs(self.keys) do
    if slot - bucket.slot >= SLOTS then self.keys[key] = nil end
  end
end

return M
