-- Payload: field lists -> decoder, checks, encoder. The checks of a message become one generated function, so that
-- judging a payload costs no loops over declarations.
--
--   decode(bytes) -> p | nil, reason        all declared fields present, proto3 zero values filled in
--   normalise(p)                            defaults and case folding; what replay repeats
--   check(p, s) -> nil | field, reason      every constraint, in the order of the declaration

local native = native
local payload_json = require("macp.modes.inside.payload_json")

local ZERO_TEXT = { string = '""', bytes = '""', bool = "false" }
local WIDE = { int64 = true, uint64 = true, sint64 = true }
local FLOAT = { double = true, float = true }
local MAX_EXACT = 2 ^ 53
local MAX_JSON_DEPTH = 16
local MAX_SHOWN = 40

local M = {}

local function is_text(field)
  return field.type == "string" or field.type == "bytes"
end

local function is_single(field)
  return not field.repeated and not field.map
end

-- Source of a Lua literal.
local function literal(value)
  if type(value) == "string" then return string.format("%q", value) end
  if type(value) == "number" then return string.format("%.17g", value) end
  return tostring(value)
end

local function shown(value)
  if type(value) ~= "string" then return tostring(value) end
  if #value > MAX_SHOWN or value:find("%c") or not native.utf8_valid(value) then return #value .. " bytes" end
  return "'" .. value .. "'"
end

local function list_text(words)
  return table.concat(words, ", ")
end

---Helpers of the generated code.
local H = { find = string.find, byte = string.byte, upper = string.upper, lower = string.lower, tonumber = tonumber }

function H.not_one_of(value, words)
  return "must be one of " .. list_text(words) .. ", not " .. shown(value)
end

function H.exists(value)
  return shown(value) .. " already exists"
end

function H.missing(value)
  return shown(value) .. " does not exist"
end

-- true when the text has a character that is not white space; called only when it begins with one.
function H.is_blank(value)
  return not string.find(value, "%S")
end

-- Source of the zero value; wide integers are decimal text.
local function zero_text(field)
  return ZERO_TEXT[field.type] or field.wide and '"0"' or "0"
end

-- Lines of normalise: default and case.
local function emit_normalise(out, field, name)
  if field.default ~= nil then
    local default = field.wide and string.format("%.0f", field.default) or field.default
    out[#out + 1] = string.format("  if p[%s] == %s then p[%s] = %s end", name, zero_text(field), name,
      literal(default))
  end
  local fold = field.upper and "upper" or field.lower and "lower"
  if fold and is_single(field) then
    out[#out + 1] = string.format("  p[%s] = H.%s(p[%s])", name, fold, name)
  elseif fold then
    out[#out + 1] = string.format("  for k, v in next, p[%s] do p[%s][k] = H.%s(v) end", name, name, fold)
  end
end

local function emit_required(out, field, name)
  if not is_single(field) then
    out[#out + 1] = string.format("  if next(v) == nil then return %s, 'must not be empty' end", name)
  elseif field.type == "string" then
    out[#out + 1] = string.format(
      "  local b = H.byte(v); if not b or b <= 32 and H.is_blank(v) then return %s, 'must not be blank' end", name)
  elseif field.type == "json" then
    out[#out + 1] = string.format("  if next(v) == nil then return %s, 'must not be empty' end", name)
  elseif field.type == "bytes" then
    out[#out + 1] = string.format("  if v == '' then return %s, 'must not be empty' end", name)
  elseif field.type == "bool" then
    out[#out + 1] = string.format("  if not v then return %s, 'must be true' end", name)
  else
    out[#out + 1] = string.format("  if v == %s then return %s, 'must not be zero' end", zero_text(field), name)
  end
end

local function emit_bounds(out, field, name)
  local measure, word
  if not is_single(field) then
    measure, word = "H.size(v)", "entries"
  elseif is_text(field) then
    measure, word = "#v", "bytes"
  else
    measure, word = field.wide and "H.tonumber(v)" or "v", nil
  end
  local function add(operator, bound, text)
    if bound == nil then return end
    out[#out + 1] = string.format("  if not (%s %s %s) then return %s, %q end", measure, operator, literal(bound), name,
      word and string.format("must have at %s %s %s", text, literal(bound), word)
        or string.format("must be at %s %s", text, literal(bound)))
  end
  add(">=", field.min, "least")
  add("<=", field.max, "most")
end

function H.size(value)
  local n = 0
  for _ in next, value do n = n + 1 end
  return n
end

-- Lines of check for one field, in the order required, in, min/max, new, ref.
local function emit_check(out, field, name, index)
  local before = #out
  out[#out + 1] = "  do local v = p[" .. name .. "]"
  if field.required then emit_required(out, field, name) end
  if field.one_of then
    local test = string.format("if not W[%d][v] then return %s, H.not_one_of(v, L[%d]) end", index, name, index)
    out[#out + 1] = is_single(field) and "  " .. test or "  for _, v in next, v do " .. test .. " end"
  end
  emit_bounds(out, field, name)
  if field.new then
    out[#out + 1] = string.format("  if s[%q][v] ~= nil then return %s, H.exists(v) end", field.new, name)
  end
  if field.ref then
    out[#out + 1] = string.format("  if s[%q][v] == nil then return %s, H.missing(v) end", field.ref, name)
  end
  if #out == before + 1 then
    out[#out] = nil
  else
    out[#out + 1] = "  end"
  end
end

local function compile(body, chunk, words, lists)
  local text = "local H, W, L, next = ...\nreturn function(p, s)\n" .. table.concat(body, "\n") .. "\nend"
  local fn = assert(native.compile(text, chunk, {}))
  return fn(H, words, lists, next)
end

-- What a value of this field must look like after decoding; returns the value or nil, reason.
local function convert_one(field, value)
  local kind = field.type
  if kind == "json" then
    if value == "" then return {} end
    local decoded, problem = native.json_decode(value, MAX_JSON_DEPTH)
    if type(decoded) ~= "table" then
      return nil, "is not a JSON object or array" .. (problem and ": " .. tostring(problem) or "")
    end
    return payload_json.drop_nulls(decoded)
  end
  if FLOAT[kind] and (value ~= value or value == math.huge or value == -math.huge) then
    return nil, "must be a finite number"
  end
  if WIDE[kind] then
    if field.wide then return type(value) == "number" and string.format("%.0f", value) or value end
    if type(value) == "string" or value > MAX_EXACT or value < -MAX_EXACT then
      return nil, "is beyond 2^53"
    end
  end
  return value
end

-- Returns the reason why the field's decoded value is refused; nil when it is fine.
local function convert_field(field, p)
  local value = p[field.name]
  if is_single(field) then
    local out, reason = convert_one(field, value)
    if out == nil then return reason end
    p[field.name] = out
    return nil
  end
  for key, item in next, value do
    local out, reason = convert_one(field, item)
    if out == nil then return reason end
    value[key] = out
  end
  return nil
end

-- The codec fills in zero values and refuses NaN; most messages need nothing else.
local function make_decode(codec, fields)
  local convert = {}
  for _, field in ipairs(fields) do
    if field.type == "json" or WIDE[field.type] then convert[#convert + 1] = field end
  end
  local decode_bytes, count = codec.decode, #convert
  if count == 0 then return decode_bytes end
  return function(bytes)
    local p, problem = decode_bytes(bytes)
    if p == nil then return nil, problem end
    for i = 1, count do
      local reason = convert_field(convert[i], p)
      if reason then return nil, "field '" .. convert[i].name .. "' " .. reason end
    end
    return p
  end
end

-- "json|proto": the object wins unless the bytes are also exactly the canonical proto form.
local function make_dual_decode(codec, fields, decode_proto)
  return function(bytes)
    local p, problem, known = payload_json.decode(fields, bytes)
    if p and known > 0 then
      local message = codec.decode(bytes)
      if message == nil or codec.encode(message) ~= bytes then return p end
    end
    local decoded, reason = decode_proto(bytes)
    if decoded == nil and p == nil and bytes:find("^%s*{") then return nil, problem end
    return decoded, reason
  end
end

-- The value as the codec wants it: JSON fields as text.
local function make_encode(codec, fields, encoding)
  local json_fields, names = {}, {}
  for _, field in ipairs(fields) do
    names[field.name] = true
    if field.type == "json" then json_fields[#json_fields + 1] = field end
  end
  return function(value)
    local out = {}
    for key, item in next, value do
      if not names[key] then return nil, "unknown field '" .. tostring(key) .. "'" end
      out[key] = item
    end
    if encoding == "json" then return payload_json.encode(fields, out) end
    for _, field in ipairs(json_fields) do
      local item = out[field.name]
      if type(item) == "table" and is_single(field) then
        out[field.name] = native.json_encode(item, true)
      elseif type(item) == "table" then
        local texts = {}
        for key, one in next, item do texts[key] = type(one) == "table" and native.json_encode(one, true) or one end
        out[field.name] = texts
      end
    end
    return codec.encode(out)
  end
end

-- The declaration as the codec takes it.
local function codec_fields(fields)
  local out = {}
  for i, field in ipairs(fields) do
    local kind = field.type == "json" and "string" or field.type
    out[i] = { name = field.name, number = field.number, type = not field.map and kind or nil,
      repeated = field.repeated, map_value = field.map and kind or nil }
  end
  return out
end

-- "raw": nobody looks into the bytes; they are the value of the one declared field.
local function raw_codec(fields)
  local name = fields[1].name
  local function encode(value)
    for key in next, value do
      if key ~= name then return nil, "unknown field '" .. tostring(key) .. "'" end
    end
    return value[name] or ""
  end
  return function(bytes) return { [name] = bytes } end, encode
end

---Compiles one message.
---@param name string full message name
---@param fields table[] result of the field-list parser
---@param encoding string "proto|json|json\|proto|raw"
function M.compile(name, fields, encoding)
  local is_raw = encoding == "raw"
  local codec = not is_raw and native.codec(name, codec_fields(fields)) or nil
  local normalise, check, words, lists = {}, {}, {}, {}
  for index, field in ipairs(fields) do
    local quoted = string.format("%q", field.name)
    emit_normalise(normalise, field, quoted)
    if field.one_of then
      words[index], lists[index] = {}, field.one_of
      for _, word in ipairs(field.one_of) do words[index][word] = true end
    end
    emit_check(check, field, quoted, index)
  end
  local decode, encode
  if is_raw then
    decode, encode = raw_codec(fields)
  else
    decode, encode = make_decode(codec, fields), make_encode(codec, fields, encoding)
  end
  if encoding == "json" then
    decode = function(bytes)
      if bytes == "" then bytes = "{}" end
      local p, problem = payload_json.decode(fields, bytes)
      return p, problem
    end
  elseif encoding == "json|proto" then
    decode = make_dual_decode(codec, fields, decode)
  end
  return {
    decode = decode, encode = encode, fields = fields,
    normalise = #normalise > 0 and compile(normalise, "=normalise " .. name, words, lists) or nil,
    check = #check > 0 and compile(check, "=check " .. name, words, lists) or nil,
  }
end

---lowerCamelCase of a proto field name.
function M.camel(name)
  return (name:gsub("_(%l)", string.upper):gsub("_(%d)", "%1"))
end

return M
