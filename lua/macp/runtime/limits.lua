-- Rate limits: so many accepted attempts per key and minute, counted in 60 slots of one second. A key costs at most
-- its slots, whatever its limit; of the keys only those used last are remembered.

local lru = require("macp.core.lru")

local floor, max = math.floor, math.max

local SLOTS = 60
local SLOT_MS = 1000
local MAX_KEYS = 16384

local Limiter = {}
Limiter.__index = Limiter

local M = {}

---@param limit integer attempts per minute and key
---@param mono_ms fun(): number monotonic clock
---@param max_keys integer|nil keys remembered; beyond it the one that was quiet longest starts anew
function M.new(limit, mono_ms, max_keys)
  return setmetatable({ limit = limit, mono_ms = mono_ms, keys = lru.new(max_keys or MAX_KEYS) }, Limiter)
end

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

-- The bucket of a key as of now, or nil.
local function current(self, key, slot)
  local bucket = self.keys:get(key)
  if bucket and slot > bucket.slot then advance(bucket, slot) end
  return bucket
end

---Counts one attempt of the key. A refused attempt is not counted.
---@return boolean allowed
function Limiter:take(key)
  local slot = floor(self.mono_ms() / SLOT_MS)
  local bucket = current(self, key, slot)
  if bucket == nil then
    bucket = { slot = slot, total = 0 }
    self.keys:set(key, bucket)
  end
  if bucket.total >= self.limit then return false end
  local at = slot % SLOTS
  bucket[at] = (bucket[at] or 0) + 1
  bucket.total = bucket.total + 1
  return true
end

---Whether the next attempt of the key would be refused. Counts nothing.
---@return boolean
function Limiter:is_exhausted(key)
  local bucket = current(self, key, floor(self.mono_ms() / SLOT_MS))
  return bucket ~= nil and bucket.total >= self.limit
end

---Forgets keys that have been quiet for a whole window. They are the oldest, so it stops at the first that was not.
function Limiter:sweep()
  local slot = floor(self.mono_ms() / SLOT_MS)
  while true do
    local key, bucket = self.keys:oldest()
    if key == nil or slot - bucket.slot < SLOTS then return end
    self.keys:remove(key)
  end
end

return M
