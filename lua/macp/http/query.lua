-- Query strings: application/x-www-form-urlencoded pairs.

local errors = require("macp.core.errors")
local utf8 = require("macp.core.utf8")

local MAX_PAIRS = 100

local M = {}

local function decode_char(hex)
  return string.char(tonumber(hex, 16))
end

local function decode(text)
  return (text:gsub("%+", " "):gsub("%%(%x%x)", decode_char))
end

---The parameters of a query string; of a repeated one the last counts, beyond 100 the rest is dropped. Text that is not
---UTF-8 raises a VALIDATION_ERROR.
---@param text string|nil without the question mark
---@return table<string, string>
function M.parse(text)
  local params, count = {}, 0
  if text == nil or text == "" then return params end
  for pair in text:gmatch("[^&]+") do
    count = count + 1
    if count > MAX_PAIRS then break end
    local name, value = pair:match("^([^=]*)=(.*)$")
    if name == nil then name, value = pair, "" end
    if name ~= "" then
      name, value = decode(name), decode(value)
      if not (utf8.is_text(name) and utf8.is_text(value)) then
        error(errors.new("VALIDATION_ERROR", nil, "the query must be UTF-8 text"), 0)
      end
      params[name] = value
    end
  end
  return params
end

return M
