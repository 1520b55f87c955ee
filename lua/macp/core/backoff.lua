-- Waiting times of retries: capped exponential growth with jitter.

---@class macp.Backoff
local Backoff = {}
Backoff.__index = Backoff

local M = {}

---@param opts { base_ms: number, max_ms: number, factor: number|nil, jitter: number|nil, random: function|nil }
--- jitter is the share of the delay that is added at random (0 to 1, default 0.2), beyond max_ms, too; random returns
--- 0..1 (injected by tests)
---@return macp.Backoff
function M.new(opts)
  assert(opts.base_ms > 0 and opts.max_ms >= opts.base_ms, "backoff needs 0 < base_ms <= max_ms")
  return setmetatable({
    base_ms = opts.base_ms, max_ms = opts.max_ms, factor = opts.factor or 2, jitter = opts.jitter or 0.2,
    random = opts.random or math.random, attempt = 0,
  }, Backoff)
end

---The delay before the next attempt in ms; grows with every call until reset.
function Backoff:next()
  local delay = math.min(self.max_ms, self.base_ms * self.factor ^ self.attempt)
  self.attempt = self.attempt + 1
  return math.floor(delay * (1 + self.jitter * self.random()) + 0.5)
end

---Starts over after a success.
function Backoff:reset()
  self.attempt = 0
end

return M
