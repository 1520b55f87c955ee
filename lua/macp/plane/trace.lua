-- Trace ids: 16 random bytes in hex, never all zero.

local crypto = require("host.crypto")

local M = {}

function M.new_id()
  local id
  repeat id = crypto.hex(crypto.random(16)) until id:find("[^0]")
  return id
end

return M
