-- The time that a dashboard looks at: its bounds, and the unit in which its charts count. Always UTC.

local errors = require("macp.core.errors")
local time = require("macp.core.time")

local HOUR_MS = 3600000

local SPANS = {
  ["15m"] = { HOUR_MS / 4, "minute" }, ["1h"] = { HOUR_MS, "minute" }, ["6h"] = { 6 * HOUR_MS, "minute" },
  ["24h"] = { 24 * HOUR_MS, "hour" }, ["7d"] = { 168 * HOUR_MS, "day" }, ["30d"] = { 720 * HOUR_MS, "day" },
}

local M = { NAMES = { "15m", "1h", "6h", "24h", "7d", "30d" }, RANGES = { "24h", "7d", "30d" } }

local function bucket_of(span_ms)
  if span_ms <= 6 * HOUR_MS then return "minute" end
  return span_ms <= 48 * HOUR_MS and "hour" or "day"
end

---The bounds that a checked query asks for.
---@param query { window: string|nil, range: string|nil, from: string|nil, to: string|nil }
---@param default string|nil the window of a query that names none; nil: all time
---@param now_ms integer
---@return { from_ms: integer|nil, to_ms: integer|nil, bucket: string }|nil
---@return table|nil err from is not before to
function M.of(query, default, now_ms)
  local to_ms = query.to and time.parse_iso(query.to)
  if query.from then
    local from_ms = time.parse_iso(query.from)
    if from_ms >= (to_ms or math.huge) then
      return nil, errors.validation({ { path = "from", message = "from must be before to" } })
    end
    return { from_ms = from_ms, to_ms = to_ms, bucket = bucket_of((to_ms or now_ms) - from_ms) }
  end
  local name = query.window or query.range or default
  if name == nil then return { to_ms = to_ms, bucket = "day" } end
  local span = SPANS[name]
  return { from_ms = now_ms - span[1], to_ms = to_ms, bucket = span[2] }
end

return M
