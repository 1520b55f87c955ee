-- Payload JSON: payloads whose wire form is a JSON object. A value is judged as the proto form judges it: numbers whole
-- and in the range of their type, each element of a list or map, bytes as base64, null as absent. 64-bit integers may
-- be decimal text, as JSON writers of other languages send them.

local native = native

local MAX_EXACT = 2 ^ 53
local MAX_DEPTH = 16
local RANGE = {
  int32 = { -2 ^ 31, 2 ^ 31 - 1 }, sint32 = { -2 ^ 31, 2 ^ 31 - 1 }, uint32 = { 0, 2 ^ 32 - 1 },
  int64 = { -MAX_EXACT, MAX_EXACT }, sint64 = { -MAX_EXACT, MAX_EXACT }, uint64 = { 0, MAX_EXACT },
}
-- Largest magnitudes of 64-bit integers, as text: they have no exact number here.
local SIGNED = { positive = "9223372036854775807", negative = "9223372036854775808" }
local WIDE = { int64 = SIGNED, sint64 = SIGNED, uint64 = { positive = "18446744073709551615", negative = "0" } }
local KIND = { string = "string", bytes = "string", bool = "boolean", json = "table" }
local ZERO = { string = "", bytes = "", bool = false }

local M = {}

local function is_single(field)
  return not field.repeated and not field.map
end

---JSON null means absent inside a mode.
function M.drop_nulls(value)
  for key, item in next, value do
    if item == native.null then
      value[key] = nil
    elseif type(item) == "table" then
      M.drop_nulls(item)
    end
  end
  return value
end

-- The canonical text of a 64-bit integer, or nil when it is none.
local function integer_text(field, text)
  local sign, digits = text:match("^(%-?)0*(%d+)$")
  if digits == nil then return nil end
  local limit = WIDE[field.type][sign == "-" and "negative" or "positive"]
  if #digits > #limit or #digits == #limit and digits > limit then return nil end
  return digits == "0" and "0" or sign .. digits
end

local function read_number(field, value)
  local range = RANGE[field.type]
  if WIDE[field.type] and type(value) == "string" then
    local text = integer_text(field, value)
    if text == nil then return nil, "must be a whole number of type " .. field.type end
    if field.wide then return text end
    value = tonumber(text)
  end
  if type(value) ~= "number" then return nil, "must be a number" end
  if range == nil then return value end
  if value % 1 ~= 0 then return nil, "must be a whole number" end
  if value < range[1] or value > range[2] then
    if WIDE[field.type] and not (field.type == "uint64" and value < 0) then return nil, "is beyond 2^53" end
    return nil, "is out of the range of " .. field.type
  end
  return field.wide and string.format("%.0f", value) or value
end

local function read_one(field, value)
  local kind = KIND[field.type]
  if kind == nil then return read_number(field, value) end
  if type(value) ~= kind then return nil, "must be a " .. kind end
  if field.type == "json" then return M.drop_nulls(value) end
  if field.type ~= "bytes" then return value end
  local bytes = native.base64_decode(value)
  if bytes == nil then return nil, "must be base64" end
  return bytes
end

local function read_many(field, value)
  if type(value) ~= "table" or native.is_array(value) ~= (field.repeated and true or false) then
    return nil, field.repeated and "must be an array" or "must be an object"
  end
  for key, item in next, value do
    local out, reason = read_one(field, item)
    if out == nil then return nil, reason end
    value[key] = out
  end
  return value
end

local function zero(field)
  if not is_single(field) or field.type == "json" then return {} end
  if field.wide then return "0" end
  local value = ZERO[field.type]
  if value == nil then return 0 end
  return value
end

---Reads a payload sent as a JSON object; members that are not declared are ignored.
---@return table|nil p every declared field; nil, reason
---@return string|nil
---@return integer|nil how many declared members the object has
function M.decode(fields, bytes)
  if bytes:find("^%s*{") == nil then return nil, "is not a JSON object" end
  local object, problem = native.json_decode(bytes, MAX_DEPTH)
  if type(object) ~= "table" then return nil, "is not JSON: " .. tostring(problem) end
  local p, known = {}, 0
  for _, field in ipairs(fields) do
    local value, reason = object[field.name]
    if value == nil or value == native.null then
      value = zero(field)
    else
      known = known + 1
      if is_single(field) then value, reason = read_one(field, value) else value, reason = read_many(field, value) end
      if value == nil then return nil, "field '" .. field.name .. "' " .. reason end
    end
    p[field.name] = value
  end
  return p, nil, known
end

local function write_bytes(value)
  if type(value) ~= "table" then return native.base64_encode(value) end
  local out = {}
  for key, item in next, value do out[key] = native.base64_encode(item) end
  return out
end

---The value as a JSON object, or nil, reason.
function M.encode(fields, value)
  local out = {}
  for key, item in next, value do out[key] = item end
  for _, field in ipairs(fields) do
    local item = out[field.name]
    if item ~= nil and field.type == "bytes" then out[field.name] = write_bytes(item) end
    if type(item) == "table" and field.repeated then out[field.name] = native.array(out[field.name]) end
  end
  return native.json_encode(out, true)
end

return M
