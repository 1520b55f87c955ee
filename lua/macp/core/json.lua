-- JSON of the application: one door to the host's encoder and decoder, and the markers they understand.

local json = require("host.json")

local M = {
  null = json.null,
  array = json.array,
  object = json.object,
  is_array = json.is_array,
  raw = json.raw,
  encode = json.encode,
  decode = json.decode,
}

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
