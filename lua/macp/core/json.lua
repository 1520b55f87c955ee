-- JSON of the application: one door to the host's encoder and decoder, and the markers they understand.

local json = require("host.json")

local utf8 = require("macp.core.utf8")

local M = {
  null = json.null,
  array = json.array,
  object = json.object,
  is_array = json.is_array,
  raw = json.raw,
  encode = json.encode,
  decode = json.decode,
}

---A text as messages show it: in quotes, shortened, in one line.
---@param text string valid UTF-8
---@param bytes integer shown at most
---@return string
function M.quoted(text, bytes) return (json.encode(utf8.shorten(text, bytes)):gsub("\127", "\\u007f")) end

---nil for JSON null, the value otherwise.
function M.absent(value)
  if value == json.null then return nil end
  return value
end

---JSON null for nil, the value otherwise.
function M.nullable(value)
  if value == nil then return json.null end
  return value
end

---Text with sorted keys: equal values give equal text.
function M.canonical(value)
  return json.encode(value, { sorted = true })
end

return M
