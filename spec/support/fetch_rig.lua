-- A server for specs of host.fetch, with routes of their own, and requests to it.

local fetch = require("host.fetch")

local servers = require("spec.support.http_server")

local M = {}

local Rig = {}
Rig.__index = Rig

--- Starts the server on a free port; servers.stop_all ends it. A path that is not in `routes` says hello; `seen` is the
--- last request that arrived.
function M.start()
  local rig = setmetatable({ routes = {}, seen = nil, server = nil, base = nil }, Rig)
  local port
  rig.server, port = servers.start({ max_body_bytes = 16 * 1024 * 1024, half_close_ms = 50 }, function(req, res)
    rig.seen = req
    local route = rig.routes[req.path]
    if route then return route(req, res) end
    res:send(200, { ["x-a"] = { "1", "2" }, ["Content-Type"] = "text/plain" }, "hello")
  end)
  rig.base = "http://127.0.0.1:" .. port
  return rig
end

--- (yields) fetch.request to a path of this server.
function Rig:request(opts)
  local all = { url = self.base .. (opts.path or "/") }
  for key, value in pairs(opts) do if key ~= "path" then all[key] = value end end
  return fetch.request(all)
end

return M
