-- How the value of a setting is read from text (environment, --set) or from JSON (configuration file).
-- Each reader returns the value; or nil, what it must be and perhaps a hint.

local json = require("macp.core.json")
local suggest = require("macp.core.suggest")

local TRUE_WORDS = { ["1"] = true, ["true"] = true, yes = true, on = true }

local M = {}

local function read_number(raw)
  if type(raw) == "number" then return raw end
  if type(raw) == "string" and raw:find("^%s*%-?%d+%.?%d*%s*$") then return tonumber(raw) end
  return nil
end

local function in_range(setting, number)
  if setting.min and number < setting.min then return nil, "must be at least " .. setting.min end
  if setting.max and number > setting.max then return nil, "must be at most " .. setting.max end
  return number
end

---A number within min and max.
function M.number(setting, raw)
  local number = read_number(raw)
  if number == nil then return nil, "must be a number" end
  return in_range(setting, number)
end

---A whole number within min and max.
function M.integer(setting, raw)
  local number = read_number(raw)
  if number == nil or number % 1 ~= 0 then return nil, "must be a whole number" end
  return in_range(setting, number)
end

-- 1, true, yes, on (any case) are true, every other text is false.
function M.boolean(_, raw)
  if type(raw) == "boolean" then return raw end
  return TRUE_WORDS[tostring(raw):lower()] == true
end

-- Only `1` switches it on.
function M.one(_, raw)
  if type(raw) == "boolean" then return raw end
  return tostring(raw) == "1"
end

---Any text.
function M.string(_, raw)
  if type(raw) == "table" then return nil, "must be text" end
  return tostring(raw)
end

-- Comma separated, trimmed, empty items dropped.
function M.list(_, raw)
  local items = {}
  if type(raw) == "table" then
    for _, item in ipairs(raw) do items[#items + 1] = tostring(item) end
    return items
  end
  for item in tostring(raw):gmatch("[^,]+") do
    item = item:match("^%s*(.-)%s*$")
    if item ~= "" then items[#items + 1] = item end
  end
  return items
end

---One of the choices, with a hint when another was meant.
function M.enum(setting, raw)
  local text = tostring(raw)
  for _, choice in ipairs(setting.choices) do
    if choice == text then return text end
  end
  return nil, "must be one of " .. table.concat(setting.choices, ", "), suggest.hint(text, setting.choices)
end

-- `IP:port` with a literal address; port 0 asks the system for one.
function M.address(_, raw)
  local host, port = tostring(raw):match("^%[?([%x%.:]+)%]?:(%d+)$")
  if host == nil or tonumber(port) > 65535 then return nil, "must be IP:port, e.g. 127.0.0.1:50051" end
  return tostring(raw)
end

-- A JSON document; a file may give it as JSON directly.
function M.json(_, raw)
  if type(raw) == "table" then return raw end
  local value, err = json.decode(tostring(raw))
  if value == nil then return nil, "must be JSON: " .. err.message end
  return value
end

return M
