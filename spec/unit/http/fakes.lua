-- A request and a reply as the host hands them over, without a socket.

local assert = require("luassert")

local app = require("macp.http.app")
local metrics = require("macp.telemetry.metrics")

local CONFIG = { cors_origin = "http://localhost:3000", compression = "gzip" }

local M = {}

---@param fields table method, path, query, headers, body, peer
function M.request(fields)
  return {
    method = fields.method or "GET", path = fields.path or "/", query = fields.query, headers = fields.headers or {},
    body = fields.body, peer = fields.peer or "127.0.0.1", version = "1.1",
  }
end

local Reply = {}
Reply.__index = Reply

function M.reply()
  return setmetatable({ chunks = {}, is_closed = false, capacity = math.huge }, Reply)
end

function Reply:send(status, headers, body)
  assert(self.status == nil, "a second reply")
  self.status, self.headers, self.body, self.is_closed = status, headers or {}, body, true
  return true
end

function Reply:start(status, headers)
  if self.is_closed then return false, "closed" end
  self.status, self.headers = status, headers or {}
  return true
end

function Reply:write(chunk)
  if self.is_closed then return nil, { code = "CLOSED" } end
  self.chunks[#self.chunks + 1] = tostring(chunk)
  return true
end

function Reply:offer(chunk)
  if self.is_closed then return false, "closed" end
  if #self.chunks >= self.capacity then return false, "full" end
  self.chunks[#self.chunks + 1] = tostring(chunk)
  return true
end

function Reply:finish()
  self.is_closed, self.finished = true, true
  return true
end

function Reply:closed() return self.is_closed end

function Reply.pending() return 0 end

---Sends a request through an application; returns the reply and its decoded body.
function M.call(application, fields)
  local reply = M.reply()
  application:handler()(M.request(fields), reply)
  local body = reply.body
  if type(body) == "string" and (reply.headers["content-type"] or ""):find("json", 1, true) then
    body = require("macp.core.json").decode(body)
  end
  return reply, body
end

---A public route with every field that a route needs.
function M.route(fields)
  local base = {
    method = "GET", path = "/thing", public = true, summary = "A thing", returns = { [200] = "Thing" },
    handler = function() return 200, { ok = true } end,
  }
  for key, value in pairs(fields or {}) do base[key] = value end
  return base
end

---An application with these routes.
function M.application(routes, opts)
  opts = opts or {}
  opts.config = opts.config or CONFIG
  opts.metrics = opts.metrics or metrics.new()
  local application = app.new(opts)
  application:mount(routes)
  return application
end

---Fails unless the reply is an error of this shape.
function M.assert_problem(reply, body, status, code, message)
  assert.same({ status, status, code, message }, { reply.status, body.statusCode, body.errorCode, body.message })
  assert.equal("string", type(body.error))
  assert.truthy(reply.headers["x-request-id"])
  assert.equal("application/json; charset=utf-8", reply.headers["content-type"])
end

return M
