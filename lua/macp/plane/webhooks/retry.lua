-- When a delivery that failed is attempted again, and when it is given up.

local time = require("macp.core.time")

local DELAYS_MS = { 1000, 5000, 30000, 120000, 600000, 3600000 } -- after the first attempt, the second, ...
local JITTER = 0.2
local MAX_WAIT_MS = 86400000 -- a receiver may ask for a day

local MONTHS = { Jan = 1, Feb = 2, Mar = 3, Apr = 4, May = 5, Jun = 6, Jul = 7, Aug = 8, Sep = 9, Oct = 10, Nov = 11,
  Dec = 12 }

local M = { DELAYS_MS = DELAYS_MS, ATTEMPTS = #DELAYS_MS + 1 }

---What a Retry-After header asks for: seconds, or a date as HTTP writes it.
---@param value string|nil
---@param now_ms integer
---@return integer|nil ms nil when there is none, or nothing one could follow
function M.asked_ms(value, now_ms)
  if value == nil then return nil end
  local seconds = value:match("^%s*(%d+)%s*$")
  if seconds then return #seconds < 10 and tonumber(seconds) * 1000 or MAX_WAIT_MS end
  local day, month, year, clock = value:match("^%s*%a%a%a, (%d%d) (%a%a%a) (%d%d%d%d) (%d%d:%d%d:%d%d) GMT%s*$")
  if day == nil or MONTHS[month] == nil then return nil end
  local at_ms = time.parse_iso(string.format("%s-%02d-%sT%sZ", year, MONTHS[month], day, clock))
  return at_ms and math.max(0, at_ms - now_ms)
end

---How long to wait after the n-th failed attempt; nil: it was the last. Never sooner than the receiver asks for.
---@param attempts integer including the one that has just failed
---@param asked_ms integer|nil
---@param random number|nil 0..1, injected by tests
function M.delay_ms(attempts, asked_ms, random)
  local base = DELAYS_MS[attempts]
  if base == nil then return nil end
  local delay = base * (1 + JITTER * (2 * (random or math.random()) - 1))
  return math.floor(math.max(delay, math.min(asked_ms or 0, MAX_WAIT_MS)))
end

return M
