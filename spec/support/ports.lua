-- Ports for programs that are started again at the same address.

local crypto = require("host.crypto")
local http = require("host.http")

local LOWEST, HIGHEST = 10000, 60000
local RANGE_FILE = "/proc/sys/net/ipv4/ip_local_port_range"
local TRIES = 200

local M = {}

-- The range to pick from: not the one of outgoing connections, any of which may take the port while nobody listens, be it
-- of another process, or the very one that looks for the program and so meets itself.
local function range()
  local file = io.open(RANGE_FILE)
  local first, last
  if file then
    first, last = file:read("*n", "*n")
    file:close()
  end
  first, last = first or 32768, last or 60999
  if first - 1 - LOWEST >= 1000 then return LOWEST, first - 1 end
  if HIGHEST - last - 1 >= 1000 then return last + 1, HIGHEST end
end

local function listens(port)
  local server = http.listen({ host = "127.0.0.1", port = port })
  if server == nil then return nil end
  local chosen = server:port()
  server:close()
  return chosen
end

---A port of 127.0.0.1 that nobody listens on, and that stays free between two starts of a program.
function M.free()
  local first, last = range()
  for _ = 1, first and TRIES or 0 do
    local high, low = crypto.random(2):byte(1, 2)
    local port = listens(first + (high * 256 + low) % (last - first + 1))
    if port then return port end
  end
  return assert(listens(0), "no port is free")
end

return M
