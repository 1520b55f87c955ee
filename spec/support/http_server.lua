-- A server for specs of the HTTP host: started with options and a handler, closed after each test.

local http = require("host.http")

local M = {}
local open = {}

--- Opens a server on a free port of 127.0.0.1. Returns the server and its port.
function M.start(opts, handler, on_error)
  local all = { host = "127.0.0.1" }
  for key, value in pairs(opts) do all[key] = value end
  local server = assert(http.listen(all))
  open[#open + 1] = server
  if handler then server:serve(handler, on_error) end
  return server, server:port()
end

--- (yields) Closes every server that is still open; for after_each.
function M.stop_all()
  for i = 1, #open do
    open[i]:close()
    open[i] = nil
  end
end

return M
