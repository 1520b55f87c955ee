-- The optional plain HTTP listener with the metrics of a runtime that runs alone.

local http = require("host.http")

local errors = require("macp.core.errors")

local CONTENT_TYPE = "text/plain; version=0.0.4"
local MAX_CONNECTIONS = 64
local PATHS = { ["/"] = true, ["/metrics"] = true }

local M = {}

---@param address string "ip:port"
---@param registry table metrics to render
---@return table|nil server, table? err
function M.start(address, registry)
  local host, port = address:match("^%[?([%x%.:]+)%]?:(%d+)$")
  local server, err = http.listen({ host = host, port = tonumber(port), max_connections = MAX_CONNECTIONS })
  if server == nil then
    return nil, errors.new("INTERNAL_ERROR", "MACP_METRICS_ADDR " .. address .. ": " .. err.message)
  end
  server:serve(function(req, res)
    if req.method ~= "GET" or not PATHS[req.path] then
      return res:send(404, { ["content-type"] = "text/plain" }, "not found\n")
    end
    res:send(200, { ["content-type"] = CONTENT_TYPE, connection = "close" }, registry:render())
  end, function(_, reason) return { ["content-type"] = "text/plain" }, reason .. "\n" end)
  return server
end

return M
