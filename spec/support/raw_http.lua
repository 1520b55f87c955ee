-- A deliberately simple HTTP client over a plain socket: sends exactly the bytes a spec gives and parses replies.

local net = require("host.net")
local task = require("host.task")

local patience = require("spec.support.patience")

local Client = {}
Client.__index = Client

local M = {}

--- (yields) A client connected to 127.0.0.1:port.
function M.connect(port, opts)
  local socket = assert(net.connect("127.0.0.1", port, opts))
  return setmetatable({ socket = socket, buffer = "" }, Client)
end

--- (yields)
function Client:send(text)
  return self.socket:write(text)
end

-- Reads more into the buffer; false at the end of the stream.
function Client:fill(timeout_ms)
  local data, err = task.with_deadline(timeout_ms or patience(3000), function() return self.socket:read() end)
  if data then
    self.buffer = self.buffer .. data
    return true
  end
  return false, err
end

function Client:line()
  while true do
    local line, rest = self.buffer:match("^(.-)\r\n(.*)$")
    if line then
      self.buffer = rest
      return line
    end
    local more, err = self:fill()
    if not more then return nil, err end
  end
end

function Client:take(count)
  while #self.buffer < count do
    local more, err = self:fill()
    if not more then return nil, err end
  end
  local bytes = self.buffer:sub(1, count)
  self.buffer = self.buffer:sub(count + 1)
  return bytes
end

function Client:chunk()
  local size = tonumber(assert(self:line()), 16)
  local data = self:take(size)
  self:take(2)
  return data
end

--- (yields) Status line and fields only: { status=, headers= } | nil, err.
function Client:head()
  local first, err = self:line()
  if not first then return nil, err end
  local reply = { status = tonumber(first:match("^HTTP/1%.1 (%d+) ")), headers = {}, order = {} }
  while true do
    local line = assert(self:line())
    if line == "" then return reply end
    local name, value = line:match("^([^:]+): (.*)$")
    reply.headers[name:lower()] = value
    reply.order[#reply.order + 1] = name
  end
end

--- (yields) A whole reply: { status=, headers=, body= } | nil, err.
function Client:reply(method)
  local reply, err = self:head()
  if not reply then return nil, err end
  if method == "HEAD" or reply.status == 204 or reply.status == 304 or reply.status == 100 then
    reply.body = ""
  elseif reply.headers["content-length"] then
    reply.body = self:take(tonumber(reply.headers["content-length"]))
  elseif reply.headers["transfer-encoding"] == "chunked" then
    local parts = {}
    repeat
      local data = self:chunk()
      parts[#parts + 1] = data
    until data == ""
    reply.body = table.concat(parts)
  else
    reply.body = self:rest()
  end
  return reply
end

--- (yields) Everything up to the end of the stream.
function Client:rest()
  while self:fill() do end
  local all = self.buffer
  self.buffer = ""
  return all
end

--- (yields) Sends text and reads one reply.
function Client:ask(text, method)
  self:send(text)
  return self:reply(method)
end

--- (yields) A simple request and its reply.
function Client:get(path)
  return self:ask("GET " .. path .. " HTTP/1.1\r\nHost: test\r\n\r\n")
end

--- (yields) true when the server closes the connection in time (see patience) and nothing else arrives before that.
function Client:is_closed_within(ms)
  local data, err = task.with_deadline(patience(ms), function() return self.socket:read() end)
  return data == nil and self.buffer == "" and (err == nil or err.code ~= "TIMEOUT")
end

function Client:close() self.socket:close() end

return M
