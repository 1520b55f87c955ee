-- Times are integer milliseconds since the epoch; ISO 8601 text exists only at the edges.

local sys = require("host.sys")

local DAY_MS, HOUR_MS, MINUTE_MS = 86400000, 3600000, 60000
local MAX_MS = 253402300799999 -- 9999-12-31T23:59:59.999Z

local M = {}

M.now_ms = sys.now_ms

-- Days since 1970-01-01 of a civil date (proleptic Gregorian), after Howard Hinnant.
local function days_from_civil(year, month, day)
  if month <= 2 then year = year - 1 end
  local era = math.floor(year / 400)
  local year_of_era = year - era * 400
  local day_of_year = math.floor((153 * (month + (month > 2 and -3 or 9)) + 2) / 5) + day - 1
  local day_of_era = year_of_era * 365 + math.floor(year_of_era / 4) - math.floor(year_of_era / 100) + day_of_year
  return era * 146097 + day_of_era - 719468
end

local function civil_from_days(days)
  days = days + 719468
  local era = math.floor(days / 146097)
  local day_of_era = days - era * 146097
  local year_of_era = math.floor((day_of_era - math.floor(day_of_era / 1460) + math.floor(day_of_era / 36524)
    - math.floor(day_of_era / 146096)) / 365)
  local day_of_year = day_of_era
    - (365 * year_of_era + math.floor(year_of_era / 4) - math.floor(year_of_era / 100))
  local shifted = math.floor((5 * day_of_year + 2) / 153)
  local day = day_of_year - math.floor((153 * shifted + 2) / 5) + 1
  local month = shifted + (shifted < 10 and 3 or -9)
  return year_of_era + era * 400 + (month <= 2 and 1 or 0), month, day
end

local day_cached, day_text

---`2026-03-01T09:15:22.500Z`
---@param ms number milliseconds since the epoch
---@return string
function M.iso(ms)
  local day = math.floor(ms / DAY_MS)
  if day ~= day_cached then
    day_text = string.format("%04d-%02d-%02dT", civil_from_days(day))
    day_cached = day
  end
  local rest = ms - day * DAY_MS
  local hours = math.floor(rest / HOUR_MS)
  local minutes = math.floor(rest % HOUR_MS / MINUTE_MS)
  local in_minute = math.floor(rest % MINUTE_MS)
  return string.format("%s%02d:%02d:%02d.%03dZ", day_text, hours, minutes, math.floor(in_minute / 1000),
    in_minute % 1000)
end

---The current time as ISO text.
function M.iso_now()
  return M.iso(sys.now_ms())
end

local DAYS_IN_MONTH = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }

local function is_date(year, month, day)
  if month < 1 or month > 12 or day < 1 then return false end
  local leap = year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0)
  return day <= DAYS_IN_MONTH[month] + ((month == 2 and leap) and 1 or 0)
end

-- `Z`, `+02:00`, `+0200` or nothing (UTC) as milliseconds; nil when it is something else.
local function zone_ms(text)
  if text == "" or text == "Z" or text == "z" then return 0 end
  local sign, hours, minutes = text:match("^([+-])(%d%d):?(%d%d)$")
  if sign == nil or tonumber(hours) > 23 or tonumber(minutes) > 59 then return nil end
  local ms = tonumber(hours) * HOUR_MS + tonumber(minutes) * MINUTE_MS
  return sign == "-" and -ms or ms
end

-- Hours, minutes, seconds and fraction as milliseconds, and what follows them.
local function clock_ms(text)
  if text == "" then return 0, "" end
  local hours, minutes, rest = text:match("^[Tt ](%d%d):(%d%d)(.*)$")
  if hours == nil or tonumber(hours) > 23 or tonumber(minutes) > 59 then return nil end
  local seconds, after = rest:match("^:(%d%d)(.*)$")
  if seconds == nil then seconds, after = "0", rest end
  if tonumber(seconds) > 59 then return nil end
  local fraction, tail = after:match("^%.(%d+)(.*)$")
  local ms = fraction and math.floor(tonumber("0." .. fraction) * 1000 + 1e-6) or 0
  return tonumber(hours) * HOUR_MS + tonumber(minutes) * MINUTE_MS + tonumber(seconds) * 1000 + ms, tail or after
end

---Milliseconds of an ISO 8601 date or date-time (a missing zone means UTC), or nil when the text is not one.
---@param text string
---@return integer|nil
function M.parse_iso(text)
  if type(text) ~= "string" or #text > 40 then return nil end
  local year, month, day, rest = text:match("^(%d%d%d%d)%-(%d%d)%-(%d%d)(.*)$")
  if year == nil then return nil end
  year, month, day = tonumber(year), tonumber(month), tonumber(day)
  if not is_date(year, month, day) then return nil end
  local in_day, zone = clock_ms(rest)
  local offset = in_day and zone_ms(zone)
  if offset == nil then return nil end
  local ms = days_from_civil(year, month, day) * DAY_MS + in_day - offset
  return ms <= MAX_MS and ms or nil
end

return M
