-- Fixed-window counters by key, bounded in number: who may do what how often.

local sys = require("host.sys")

local MAX_KEYS = 10000

---@class macp.Limiter
local Limiter = {}
Limiter.__index = Limiter

local M = {}

---@param opts { window_ms: integer, limit: integer, max_keys: integer|nil, now_ms: function|nil }
---@return macp.Limiter
function M.new(opts)
  return setmetatable({
    window_ms = opts.window_ms, limit = opts.limit, max_keys = opts.max_keys or MAX_KEYS,
    now_ms = opts.now_ms or sys.mono_ms, counts = {}, ends = {}, size = 0, sweep_at = 0,
  }, Limiter)
end

-- Forgets windows that have ended; when that frees nothing, forgets all (a flood of keys must not grow memory).
local function make_room(self, now)
  for key, window_end in pairs(self.ends) do
    if window_end <= now then
      self.ends[key], self.counts[key] = nil, nil
      self.size = self.size - 1
    end
  end
  if self.size >= self.max_keys then
    self.ends, self.counts, self.size = {}, {}, 0
  end
end

---Counts one use of key.
---@return boolean allowed
---@return integer remaining uses in this window
---@return integer reset_ms until the window ends
function Limiter:take(key)
  local now = self.now_ms()
  local window_end = self.ends[key]
  local count
  if window_end == nil or window_end <= now then
    if window_end == nil then
      if self.size >= self.max_keys then make_room(self, now) end
      self.size = self.size + 1
    end
    window_end, count = now + self.window_ms, 1
    self.ends[key] = window_end
  else
    count = self.counts[key] + 1
  end
  self.counts[key] = count
  local remaining = self.limit - count
  return remaining >= 0, remaining > 0 and remaining or 0, window_end - now
end

return M
