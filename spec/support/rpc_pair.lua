-- A gRPC server and a channel to it in one process, for specs of host.rpc.

local rpc = require("host.rpc")

local M = {}

M.METHODS = {
  ["/t.S/Unary"] = "unary",
  ["/t.S/Down"] = "server_stream",
  ["/t.S/Up"] = "client_stream",
  ["/t.S/Both"] = "bidi",
  ["/t.S/Late"] = { kind = "bidi", late_headers = true },
}

---Runs body(channel, server) against a server whose calls go to handlers[method]; closes both. (yields)
function M.run(handlers, body, server_opts, channel_opts)
  local opts = { methods = M.METHODS }
  for key, value in pairs(server_opts or {}) do opts[key] = value end
  local server = assert(rpc.listen(opts))
  server:serve(function(call) handlers[call.method](call) end)
  local copts = { target = opts.address or ("127.0.0.1:" .. server:port()), own_connection = true }
  for key, value in pairs(channel_opts or {}) do copts[key] = value end
  local channel = assert(rpc.channel(copts))
  local ok, err = xpcall(body, debug.traceback, channel, server)
  channel:close()
  server:close()
  if not ok then error(err, 0) end
end

return M
