-- A bounded map that forgets what was used least recently.

---@class macp.Lru
local Lru = {}
Lru.__index = Lru

local M = {}

---@param capacity integer at least 1
---@param on_evict fun(key: any, value: any)|nil called for entries that had to go
---@return macp.Lru
function M.new(capacity, on_evict)
  assert(capacity >= 1, "lru capacity must be at least 1")
  local ends = {}
  ends.newer, ends.older = ends, ends -- ends.older is the newest entry, ends.newer the oldest
  return setmetatable({ capacity = capacity, on_evict = on_evict, entries = {}, ends = ends, size = 0 }, Lru)
end

local function unlink(entry)
  entry.newer.older, entry.older.newer = entry.older, entry.newer
end

local function link_newest(self, entry)
  local ends = self.ends
  entry.newer, entry.older = ends, ends.older
  ends.older.newer = entry
  ends.older = entry
end

function Lru:get(key)
  local entry = self.entries[key]
  if entry == nil then return nil end
  unlink(entry)
  link_newest(self, entry)
  return entry.value
end

function Lru:set(key, value)
  local entry = self.entries[key]
  if entry then
    entry.value = value
    unlink(entry)
    link_newest(self, entry)
    return
  end
  if self.size >= self.capacity then
    local oldest = self.ends.newer
    self:remove(oldest.key)
    if self.on_evict then self.on_evict(oldest.key, oldest.value) end
  end
  entry = { key = key, value = value }
  self.entries[key] = entry
  link_newest(self, entry)
  self.size = self.size + 1
end

---What was used least recently: key, value; nil when there is nothing. Looking does not count as use.
function Lru:oldest()
  local entry = self.ends.newer
  return entry.key, entry.value
end

function Lru:remove(key)
  local entry = self.entries[key]
  if entry == nil then return nil end
  unlink(entry)
  self.entries[key] = nil
  self.size = self.size - 1
  return entry.value
end

return M
