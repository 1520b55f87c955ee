-- Messages of calls as tables, for calls that are not hot.

local rpc = require("host.rpc")

local messages = require("macp.protocol.messages")

local M = {}

local codecs = {}

---The codec of a message, made when it is first used.
---@param name string full name, here and below
function M.codec(name)
  codecs[name] = codecs[name] or messages.codec(name, { enums = "number" })
  return codecs[name]
end

---The request of a call; nil when it does not decode: then the call has been answered (INTERNAL, like gRPC libraries).
---@param call table host.rpc call
---@param name string
---@return table|nil request
function M.request(call, name)
  local request, err = M.codec(name):decode(call:request())
  if request == nil then call:fail(rpc.status.INTERNAL, "the request does not decode: " .. err.message) end
  return request
end

---Answers a call. Raises when the value is not such a message.
---@param call table host.rpc call
---@param name string
---@param value table
function M.reply(call, name, value) call:reply_with(M.codec(name), value) end

return M
