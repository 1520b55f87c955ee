-- The id of a canonical event: a UUID made of the run and the sequence number (version 8: our own layout), so that the
-- same event has the same id however often it is told, and no id has to be stored or drawn at random.

local crypto = require("host.crypto")

local M = {}

local PREFIXES_MAX = 4096
local prefixes, known = {}, 0

---The first 24 characters of every event id of a run.
---@param run_id string
function M.prefix(run_id)
  local prefix = prefixes[run_id]
  if prefix == nil then
    local hex = crypto.sha256_hex("macp.event:" .. run_id)
    prefix = string.format("%s-%s-8%s-a%s-", hex:sub(1, 8), hex:sub(9, 12), hex:sub(13, 15), hex:sub(16, 18))
    if known >= PREFIXES_MAX then prefixes, known = {}, 0 end
    prefixes[run_id], known = prefix, known + 1
  end
  return prefix
end

---@param run_id string
---@param seq integer
function M.of(run_id, seq)
  return M.prefix(run_id) .. string.format("%012x", seq)
end

return M
