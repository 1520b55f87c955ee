-- Fixed-window counters by key, bounded in number: who may do what how often. When there are more keys than that, windows
-- that have ended go first, then those with the fewest uses, oldest first: a flood of new keys drives out its own, and whoever
-- has used up what it may cannot be made to look new by it. All of it takes constant time; memory is a few flat arrays.

local sys = require("host.sys")

local MAX_KEYS = 10000
local CLASSES = 54 -- of numbers of uses: 1, 2-3, 4-7, ... up to the largest exact number

---@class macp.Limiter
local Limiter = {}
Limiter.__index = Limiter

local M = {}

-- Circular lists of slots; a list is named by a number behind those of the slots, which is its own first and last neighbour.
local function empty_list(lists, name)
  lists.newer[name], lists.older[name] = name, name
end

local function unlink(lists, slot)
  local newer, older = lists.newer, lists.older
  newer[older[slot]], older[newer[slot]] = newer[slot], older[slot]
end

local function link_newest(lists, name, slot)
  local newer, older = lists.newer, lists.older
  local newest = older[name]
  newer[slot], older[slot] = name, newest
  newer[newest], older[name] = slot, slot
end

---@param opts { window_ms: integer, limit: integer, max_keys: integer|nil, now_ms: function|nil }
---@return macp.Limiter
function M.new(opts)
  local self = setmetatable({
    window_ms = opts.window_ms, limit = opts.limit, max_keys = opts.max_keys or MAX_KEYS,
    now_ms = opts.now_ms or sys.mono_ms, size = 0, slots = {}, keys = {}, counts = {}, ends = {},
    by_use = { newer = {}, older = {} }, by_age = { newer = {}, older = {} },
  }, Limiter)
  for class = 1, CLASSES do empty_list(self.by_use, self.max_keys + class) end
  self.ages = self.max_keys + 1
  empty_list(self.by_age, self.ages)
  return self
end

-- The name of the list of all slots with about so many uses.
local function class_of(self, count)
  local _, exponent = math.frexp(count)
  return self.max_keys + exponent
end

-- The slot that is given to another key: all windows are of one length, so the oldest one ends first.
local function least_wanted(self, now)
  local oldest = self.by_age.newer[self.ages]
  if self.ends[oldest] <= now then return oldest end
  for class = self.max_keys + 1, self.max_keys + CLASSES do
    local slot = self.by_use.newer[class]
    if slot ~= class then return slot end
  end
end

local function open_window(self, slot, now)
  self.counts[slot], self.ends[slot] = 1, now + self.window_ms
  link_newest(self.by_use, class_of(self, 1), slot)
  link_newest(self.by_age, self.ages, slot)
end

local function close_window(self, slot)
  unlink(self.by_use, slot)
  unlink(self.by_age, slot)
end

local function enter(self, key, now)
  local slot = self.size + 1
  if slot > self.max_keys then
    slot = least_wanted(self, now)
    close_window(self, slot)
    self.slots[self.keys[slot]] = nil
  else
    self.size = slot
  end
  self.slots[key], self.keys[slot] = slot, key
  open_window(self, slot, now)
  return slot
end

local function count_up(self, slot)
  local count = self.counts[slot]
  if count > self.limit then return end -- one too many is enough to know
  self.counts[slot] = count + 1
  local class = class_of(self, count + 1)
  if class ~= class_of(self, count) then
    unlink(self.by_use, slot)
    link_newest(self.by_use, class, slot)
  end
end

---Counts one use of key.
---@return boolean allowed
---@return integer remaining uses in this window
---@return integer reset_ms until the window ends
function Limiter:take(key)
  local now = self.now_ms()
  local slot = self.slots[key]
  if slot == nil then
    slot = enter(self, key, now)
  elseif self.ends[slot] <= now then
    close_window(self, slot)
    open_window(self, slot, now)
  else
    count_up(self, slot)
  end
  local remaining = self.limit - self.counts[slot]
  return remaining >= 0, remaining > 0 and remaining or 0, self.ends[slot] - now
end

return M
