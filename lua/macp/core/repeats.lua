-- Errors that repeat themselves, e.g. while a database is away: so many lines of a kind are written per period, the rest
-- is counted and told with the next line, or on its own once the kind has fallen silent.

local log = require("host.log")
local sys = require("host.sys")

local PERIOD_MS = 10000
local LINES = 10
local MAX_KINDS = 256
local MAX_KEY = 200

---@class macp.Repeats
local Repeats = {}
Repeats.__index = Repeats

local M = {}

---@param opts { lines: integer|nil, period_ms: number|nil, mono_ms: (fun(): number)|nil, write: function|nil }|nil
--- lines per kind and period (10 in 10 s); mono_ms and write(level, event, fields) are injected by tests
---@return macp.Repeats
function M.new(opts)
  opts = opts or {}
  return setmetatable({
    lines = opts.lines or LINES, period_ms = opts.period_ms or PERIOD_MS, mono_ms = opts.mono_ms or sys.mono_ms,
    write = opts.write or function(level, event, fields) log[level](event, fields) end,
    kinds = {}, count = 0, swept = 0,
  }, Repeats)
end

-- Forgets kinds whose period is over; what they kept back is told.
local function sweep(self, now)
  if now - self.swept < self.period_ms then return end
  self.swept = now
  for key, kind in pairs(self.kinds) do
    if now - kind.since >= self.period_ms then
      if kind.suppressed > 0 then
        self.write(kind.level, kind.event, { suppressed = kind.suppressed, error = kind.error })
      end
      self.kinds[key] = nil
      self.count = self.count - 1
    end
  end
end

---Writes a line, unless enough of its kind were written lately.
---@param level "warn"|"error"
---@param event string
---@param key any what makes it the same error again, e.g. its code or message
---@param fields table gains `suppressed`: how many lines of this kind were not written since the last one
---@return boolean written
function Repeats:tell(level, event, key, fields)
  local now = self.mono_ms()
  sweep(self, now)
  local name = event .. "\0" .. tostring(key):sub(1, MAX_KEY)
  local kind = self.kinds[name]
  if kind == nil and self.count >= MAX_KINDS then
    name = event -- so many different ones: they share one budget
    kind = self.kinds[name]
  end
  if kind == nil then
    kind = { level = level, event = event, since = now, written = 0, suppressed = 0 }
    self.kinds[name], self.count = kind, self.count + 1
  elseif now - kind.since >= self.period_ms then
    kind.since, kind.written = now, 0
  end
  kind.error = fields.error
  if kind.written >= self.lines then
    kind.suppressed = kind.suppressed + 1
    return false
  end
  kind.written = kind.written + 1
  if kind.suppressed > 0 then fields.suppressed = kind.suppressed end
  kind.suppressed = 0
  self.write(level, event, fields)
  return true
end

return M
