-- The payload types of a mode as protoc would describe them: a serialized FileDescriptorProto, for tools that build
-- messages from descriptors. proto_text.lua has the same as text for people.

local messages = require("macp.protocol.messages")

-- Values of the enums of FieldDescriptorProto.
local OPTIONAL, REPEATED = "LABEL_OPTIONAL", "LABEL_REPEATED"
local MESSAGE_TYPE = "TYPE_MESSAGE"
local TYPES = { json = "TYPE_STRING" } -- others are named as theirs

local M = {}

local function type_of(field) return TYPES[field.type] or "TYPE_" .. field.type:upper() end

-- lower_case -> camelCase, as protoc does it; with is_type CamelCase.
local function camel(name, is_type)
  local out = name:gsub("_(.)", string.upper)
  return is_type and (out:gsub("^.", string.upper)) or out
end

local function field_of(name, number, label, kind, type_name)
  return { name = name, number = number, label = label, type = kind, type_name = type_name, json_name = camel(name) }
end

-- A map is a repeated message of keys and values.
local function map_entry(field)
  return {
    name = camel(field.name, true) .. "Entry", options = { map_entry = true },
    field = { field_of("key", 1, OPTIONAL, "TYPE_STRING"), field_of("value", 2, OPTIONAL, type_of(field)) },
  }
end

local function message_of(package, message)
  local out = { name = message.type .. "Payload", field = {}, nested_type = {} }
  for i, field in ipairs(message.fields) do
    if field.map then
      local entry = map_entry(field)
      out.nested_type[#out.nested_type + 1] = entry
      out.field[i] = field_of(field.name, field.number, REPEATED, MESSAGE_TYPE,
        "." .. package .. "." .. out.name .. "." .. entry.name)
    else
      out.field[i] = field_of(field.name, field.number, field.repeated and REPEATED or OPTIONAL, type_of(field))
    end
  end
  return out
end

---The file of a mode; nil when no payload of it is a message.
---@param model table of a revision
---@param name string of the file
---@return string|nil bytes serialized FileDescriptorProto
function M.render(model, name)
  local file = { name = name, package = model.package, syntax = "proto3", message_type = {} }
  for _, message in ipairs(model.messages) do
    if message.encoding ~= "raw" then
      file.message_type[#file.message_type + 1] = message_of(model.package, message)
    end
  end
  if #file.message_type == 0 then return nil end
  return assert(messages.codec("google.protobuf.FileDescriptorProto"):encode(file))
end

return M
