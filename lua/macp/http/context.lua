-- Facts about one request, handed to steps and handlers.

local log = require("host.log")

local limit = require("macp.http.steps.limit")
local query = require("macp.http.query")

---@class macp.Context
---@field req table the host's request: method, path, query, headers, body, peer
---@field res table the host's reply; raw routes write it themselves
---@field request_id string
---@field route table|nil
---@field params table path parameters
---@field broken_param string|nil the path parameter whose percent-encoding is none (steps/parse.lua refuses it)
---@field query table query parameters (parsed on first use, defaults of the schema filled in)
---@field headers table<string, string> lower-case names
---@field body any the validated body
---@field actor { id: string, type: string, tenant: string }
---@field tenant string
---@field streams table|nil the application's event streams (http/sse.lua)
---@field rate { limit: integer, remaining: integer, reset_s: integer }|nil
---@field status integer|nil status of a raw reply
---@field varies boolean|nil the reply depends on what encodings the caller accepts
---@field span macp.Span|nil with tracing on
local Context = {}

Context.__index = function(ctx, key)
  if key == "query" then
    local params = query.parse(ctx.req.query)
    ctx.query = params
    return params
  end
  return Context[key]
end

---Adds what every reply carries: request id, CORS, rate limit. Raw routes call it themselves (sse.open does).
---@param headers table<string, string> changed in place
---@param status integer
function Context:add_headers(headers, status)
  headers["x-request-id"] = self.request_id
  self.app.cors.apply(headers)
  if self.varies then
    headers["vary"] = headers["vary"] and headers["vary"] .. ", Accept-Encoding" or "Accept-Encoding"
  end
  if self.rate then limit.describe(self.rate, headers, status) end
end

---Logs with the request's id.
function Context:log(event, fields)
  fields = fields or {}
  fields.request_id = self.request_id
  log.info(event, fields)
end

return Context
