-- Payload bytes of an envelope as JSON: by the core message types, or generically when nobody knows the type. (What a
-- mode knows about its own messages, its revision decodes.)

local crypto = require("host.crypto")

local json = require("macp.core.json")
local messages = require("macp.protocol.messages")
local text = require("macp.plane.text")

local M = {}

local codecs = {}

-- Only fields present on the wire, lowerCamelCase, enums as names, bytes as base64.
local function codec_of(message_type)
  local codec = codecs[message_type]
  if codec == nil then
    local name = messages.core_payload(message_type)
    codec = name and messages.codec(name, { names = "json", bytes = "base64", defaults = false }) or false
    codecs[message_type] = codec
  end
  return codec
end

local function json_object(bytes)
  if bytes:byte(1) ~= 123 then return nil end
  local value = json.decode(bytes)
  return type(value) == "table" and not json.is_array(value) and value or nil
end

---A payload of a core type: its fields as a table, nil when the type is not a core one or the bytes do not fit it.
---A JSON object is taken as it is: no encoder of these messages starts with its first byte.
---@return table|nil
function M.core(message_type, bytes)
  local codec = codec_of(message_type)
  if not codec then return nil end
  return json_object(bytes) or (codec:decode(bytes))
end

---A payload of a type nobody knows, nil when it is empty.
---@return table|nil
function M.generic(bytes)
  if #bytes == 0 then return nil end
  local value = json.decode(bytes)
  if value ~= nil then return { json = value, encoding = "json" } end
  return { text = (text.utf8(bytes):gsub("%z", "\239\191\189")), encoding = "text",
    payloadBase64 = crypto.base64_encode(bytes) }
end

---A payload of a known type whose sender wrote JSON: its object itself, as if it had been the type's own form.
---@param payload table|nil of M.generic
---@return table|nil
function M.unwrapped(payload)
  local value = payload and payload.encoding == "json" and payload.json
  return type(value) == "table" and not json.is_array(value) and value or payload
end

local names_of = setmetatable({}, { __mode = "k" }) -- revision -> message type -> full name

---Full name of the message that payloads of a type are, nil when nobody knows one.
---@param rev macp.modes.Revision|nil the mode's revision
---@return string|nil
function M.type_name(rev, message_type)
  local core = messages.core_payload(message_type)
  if core or rev == nil then return core end
  local names = names_of[rev]
  if names == nil then
    names = {}
    for name, message in pairs(rev:describe().messages) do names[name] = message.payload_type end
    names_of[rev] = names
  end
  return names[message_type]
end

---The payload as a table by the best reading there is.
function M.decode(message_type, bytes)
  return M.core(message_type, bytes) or M.generic(bytes)
end

return M
