-- Bytes of a payload that a request carries as JSON, text, base64, or the fields of a protobuf message.

local crypto = require("host.crypto")

local json = require("macp.core.json")
local messages = require("macp.protocol.messages")

local M = {}

-- snake_case keys in lowerCamelCase, all the way down.
local function camel_keys(value)
  if type(value) ~= "table" then return value end
  local out = json.is_array(value) and json.array({}) or {}
  for key, item in pairs(value) do
    if type(key) == "string" then key = key:gsub("_(%l)", string.upper) end
    out[key] = camel_keys(item)
  end
  return out
end

local function proto_bytes(given)
  if given == nil then return nil, "proto should not be empty" end
  local known, codec = pcall(messages.codec, given.typeName, { names = "json", bytes = "base64" })
  if not known or codec == nil then return nil, "proto.typeName is not a known message" end
  local bytes, err = codec:encode(camel_keys(given.value))
  if bytes == nil then return nil, "proto.value: " .. err.message end
  return bytes
end

local ENCODINGS = {
  json = function(envelope)
    local value = envelope.json
    if value == nil then value = json.object({}) end
    return json.encode(value)
  end,
  text = function(envelope) return envelope.text or "" end,
  base64 = function(envelope)
    local bytes = crypto.base64_decode(envelope.base64 or "")
    if bytes == nil then return nil, "base64 is not base64" end
    return bytes
  end,
  proto = function(envelope) return proto_bytes(envelope.proto) end,
}

---@param envelope { encoding: "json"|"text"|"base64"|"proto", json: any, text: string|nil, base64: string|nil,
---  proto: { typeName: string, value: table }|nil }|nil
---@param payload table|nil sent as JSON when there is no envelope
---@return string|nil bytes nothing of both is no bytes
---@return string|nil problem beginning with the field of the envelope
function M.bytes(envelope, payload)
  if envelope ~= nil then return ENCODINGS[envelope.encoding](envelope) end
  if payload ~= nil then return json.encode(payload) end
  return ""
end

return M
