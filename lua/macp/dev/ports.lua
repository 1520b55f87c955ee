-- Ports of `macp dev`: looked at before anything is started, so that a busy one costs nothing.

local http = require("host.http")

local MAX = 65535

local M = {}

---The port to use: the given one when it is free, a free one for 0.
---@param host string IP address
---@param port integer
---@param option string the option that chooses another, for the message
---@return integer|nil port
---@return table|nil err one line: the port and how to choose another
function M.claim(host, port, option)
  if port < 0 or port > MAX then
    return nil, { code = "USAGE", message = string.format("%s must be from 0 to %d, not `%d`", option, MAX, port) }
  end
  local server, err = http.listen({ host = host, port = port })
  if not server then
    return nil, { code = "UNAVAILABLE", message = string.format(
      "port %d is not free (%s): end the program that uses it, or choose another port with %s N (0: any free one)",
      port, err.message, option) }
  end
  port = server:port()
  server:close()
  return port
end

return M
