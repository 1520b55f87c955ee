-- Describe: what tools, documents and agents want to know about a revision: messages, fields, senders, policy, .proto.

local proto_host = require("host.proto")

local proto_text = require("macp.modes.proto_text")

local M = {}

local ROLE_ORDER = { "participant", "initiator", "committer", "runtime", "anyone" }

---Roles of a `from` in a fixed order.
function M.roles(from)
  local out = {}
  for _, role in ipairs(ROLE_ORDER) do
    if from[role] then out[#out + 1] = role end
  end
  return out
end

-- Full name of the message that payloads of a type are; opaque ones are none.
local function payload_type(model, message)
  return message.encoding ~= "raw" and model.package .. "." .. message.type .. "Payload" or nil
end

local function message_of(model, message)
  local needs = {}
  for i, need in ipairs(message.needs) do needs[i] = { text = need.text, code = need.code } end
  local fields = {}
  for i, field in ipairs(message.fields) do
    fields[i] = { name = field.name, number = field.number, type = field.type, repeated = field.repeated or false,
      map = field.map or false, required = field.required or false, default = field.default, one_of = field.one_of,
      min = field.min, max = field.max, new = field.new, ref = field.ref }
  end
  return { from = M.roles(message.from), fields = fields, needs = needs, doc = message.doc,
    encoding = message.encoding, payload_type = payload_type(model, message) }
end

---Everything about a revision as plain data.
---@param rev macp.modes.Revision
function M.describe(rev)
  local model, messages, authority = rev.model, {}, {}
  for _, message in ipairs(model.messages) do
    messages[message.type] = message_of(model, message)
    authority[message.type] = messages[message.type].from
  end
  authority.Commitment = M.roles(model.commitment.from)
  return { descriptor = rev.descriptor, messages = messages, policy = model.policy, outcomes = model.outcomes,
    participants = model.participants, timers = model.timers, authority = authority, proto = proto_text.render(model),
    revision = rev.hash, presentation = rev.presentation }
end

local function host_fields(fields)
  local out = {}
  for i, field in ipairs(fields) do
    local kind = field.type == "json" and "string" or field.type
    out[i] = { name = field.name, number = field.number, type = not field.map and kind or nil,
      repeated = field.repeated,
      map_value = field.map and kind or nil }
  end
  return out
end

-- The codec of a message whose payload is opaque: the bytes are the value of its one field.
local function raw_codec(name)
  return {
    encode = function(_, value) return value[name] or "" end,
    decode = function(_, bytes) return { [name] = bytes } end,
  }
end

---A codec for payloads of one message type: encode(table) -> bytes, decode(bytes) -> table.
---@return table|nil nil when the mode has no such message
function M.codec(rev, message_type)
  rev.codecs = rev.codecs or {}
  if rev.codecs[message_type] then return rev.codecs[message_type] end
  for _, message in ipairs(rev.model.messages) do
    if message.type == message_type and message.encoding == "raw" then
      rev.codecs[message_type] = raw_codec(message.fields[1].name)
      return rev.codecs[message_type]
    end
    if message.type == message_type then
      local name = payload_type(rev.model, message)
      local pool = proto_host.fields(name, host_fields(message.fields))
      local codec = pool:codec(name, { names = "proto", defaults = true })
      rev.codecs[message_type] = codec
      return codec
    end
  end
  return nil
end

return M
