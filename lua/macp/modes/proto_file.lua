-- The payload types of a mode as protoc would describe them: a serialized FileDescriptorProto, for tools that build
-- messages from descriptors. proto_text.lua has the same as text for people.

-- Numbers of descriptor.proto.
local FILE = { NAME = 1, PACKAGE = 2, MESSAGE = 4, SYNTAX = 12 }
local MESSAGE = { NAME = 1, FIELD = 2, NESTED = 3, OPTIONS = 7 }
local MAP_ENTRY = 7 -- of MessageOptions
local FIELD = { NAME = 1, NUMBER = 3, LABEL = 4, TYPE = 5, TYPE_NAME = 6, JSON_NAME = 10 }
local OPTIONAL, REPEATED = 1, 3
local MESSAGE_TYPE = 11
local TYPES = {
  double = 1, float = 2, int64 = 3, uint64 = 4, int32 = 5, bool = 8, string = 9, json = 9, bytes = 12, uint32 = 13,
  sint32 = 17, sint64 = 18,
}

local M = {}

local function varint(n)
  local out = ""
  while n >= 128 do
    out = out .. string.char(n % 128 + 128)
    n = math.floor(n / 128)
  end
  return out .. string.char(n)
end

local function number_field(number, value) return varint(number * 8) .. varint(value) end

local function text_field(number, bytes) return varint(number * 8 + 2) .. varint(#bytes) .. bytes end

-- lower_case -> camelCase, as protoc does it; with is_type CamelCase.
local function camel(name, is_type)
  local out = name:gsub("_(.)", string.upper)
  return is_type and (out:gsub("^.", string.upper)) or out
end

local function field_bytes(name, number, label, kind, type_name)
  return text_field(FIELD.NAME, name) .. number_field(FIELD.NUMBER, number) .. number_field(FIELD.LABEL, label)
    .. number_field(FIELD.TYPE, kind) .. (type_name and text_field(FIELD.TYPE_NAME, type_name) or "")
    .. text_field(FIELD.JSON_NAME, camel(name))
end

-- A map is a repeated message of keys and values.
local function map_entry(field)
  return text_field(MESSAGE.NAME, camel(field.name, true) .. "Entry")
    .. text_field(MESSAGE.FIELD, field_bytes("key", 1, OPTIONAL, TYPES.string))
    .. text_field(MESSAGE.FIELD, field_bytes("value", 2, OPTIONAL, TYPES[field.type]))
    .. text_field(MESSAGE.OPTIONS, number_field(MAP_ENTRY, 1))
end

local function message_bytes(package, message)
  local name = message.type .. "Payload"
  local out = { text_field(MESSAGE.NAME, name) }
  for _, field in ipairs(message.fields) do
    if field.map then
      local entry = "." .. package .. "." .. name .. "." .. camel(field.name, true) .. "Entry"
      out[#out + 1] = text_field(MESSAGE.FIELD,
        field_bytes(field.name, field.number, REPEATED, MESSAGE_TYPE, entry))
      out[#out + 1] = text_field(MESSAGE.NESTED, map_entry(field))
    else
      out[#out + 1] = text_field(MESSAGE.FIELD,
        field_bytes(field.name, field.number, field.repeated and REPEATED or OPTIONAL, TYPES[field.type]))
    end
  end
  return table.concat(out)
end

---The file of a mode; nil when no payload of it is a message.
---@param model table of a revision
---@param name string of the file
---@return string|nil bytes serialized FileDescriptorProto
function M.render(model, name)
  local out = { text_field(FILE.NAME, name), text_field(FILE.PACKAGE, model.package) }
  for _, message in ipairs(model.messages) do
    if message.encoding ~= "raw" then
      out[#out + 1] = text_field(FILE.MESSAGE, message_bytes(model.package, message))
    end
  end
  if #out == 2 then return nil end
  out[#out + 1] = text_field(FILE.SYNTAX, "proto3")
  return table.concat(out)
end

return M
