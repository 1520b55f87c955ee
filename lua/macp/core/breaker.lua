-- Circuit breaker: after a run of failures calls are refused at once until a probe succeeds.
-- CLOSED -> OPEN after `threshold` consecutive failures; OPEN -> HALF_OPEN `reset_ms` after the last failure, seen when
-- the state is read; HALF_OPEN admits one probe: success closes, failure opens again.

local sys = require("host.sys")

local errors = require("macp.core.errors")

local HISTORY = 200
local CLOSED, OPEN, HALF_OPEN = "CLOSED", "OPEN", "HALF_OPEN"

---@class macp.Breaker
local Breaker = {}
Breaker.__index = Breaker

local M = { CLOSED = CLOSED, OPEN = OPEN, HALF_OPEN = HALF_OPEN }

---@param opts { threshold: integer, reset_ms: integer, counts: function|nil, on_change: function|nil,
---  on_result: function|nil,
---  mono_ms: function|nil, now_ms: function|nil }
--- counts(err) tells whether a failure counts (default: all do); on_change(state, reason);
--- on_result(ok) hears of every call that counts
---@return macp.Breaker
function M.new(opts)
  local self = setmetatable({
    threshold = opts.threshold, reset_ms = opts.reset_ms, counts = opts.counts, on_change = opts.on_change,
    on_result = opts.on_result, mono_ms = opts.mono_ms or sys.mono_ms, now_ms = opts.now_ms or sys.now_ms,
    failures = 0, failed_at = 0, probing = false, history = {},
  }, Breaker)
  self.current = CLOSED
  self:_record(CLOSED, "initial")
  return self
end

function Breaker:_record(state, reason)
  local history = self.history
  history[#history + 1] = { state = state, entered_at_ms = self.now_ms(), reason = reason }
  if #history > HISTORY then table.remove(history, 1) end
end

local function enter(self, state, reason)
  if self.current == state then return end
  self.current = state
  self.probing = false
  self:_record(state, reason)
  if self.on_change then self.on_change(state, reason) end
end

---CLOSED, OPEN or HALF_OPEN now.
function Breaker:state()
  if self.current == OPEN and self.mono_ms() - self.failed_at >= self.reset_ms then
    enter(self, HALF_OPEN, string.format("reset timeout after %dms", self.reset_ms))
  end
  return self.current
end

function Breaker:_succeeded()
  if self.on_result then self.on_result(true) end
  self.failures = 0
  if self.current == HALF_OPEN then enter(self, CLOSED, "half-open probe succeeded")
  else enter(self, CLOSED, "success") end
end

function Breaker:_failed()
  if self.on_result then self.on_result(false) end
  self.failures = self.failures + 1
  self.failed_at = self.mono_ms()
  if self.current == HALF_OPEN or self.failures >= self.threshold then
    enter(self, OPEN, string.format("%d consecutive failures", self.failures))
  end
end

-- Judges the results of a call; a neutral failure only ends the probe.
local function settle(self, was_probe, value, err, ...)
  if was_probe then self.probing = false end
  if value ~= nil or err == nil then
    self:_succeeded()
  elseif self.counts == nil or self.counts(err) then
    self:_failed()
  end
  return value, err, ...
end

---Calls fn unless the breaker is open; nil, err results decide about the state. (yields when fn does)
---@return any results of fn, or nil and a CIRCUIT_BREAKER_OPEN error
function Breaker:call(fn, ...)
  local state = self:state()
  if state == OPEN or (state == HALF_OPEN and self.probing) then
    local err = errors.new("CIRCUIT_BREAKER_OPEN")
    if state == OPEN then
      err.retry_after_s = math.ceil((self.failed_at + self.reset_ms - self.mono_ms()) / 1000)
    end
    return nil, err
  end
  local is_probe = state == HALF_OPEN
  if is_probe then self.probing = true end
  local results = { pcall(fn, ...) }
  if not results[1] then
    if is_probe then self.probing = false end
    self:_failed()
    error(results[2], 0)
  end
  return settle(self, is_probe, unpack(results, 2, table.maxn(results)))
end

---Closes it by hand.
function Breaker:reset()
  self.failures = 0
  enter(self, CLOSED, "manual reset")
end

---State changes, oldest first: { state, entered_at_ms, reason }.
function Breaker:changes()
  return { unpack(self.history) }
end

return M
