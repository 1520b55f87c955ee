-- Whom an address stands for when callers are counted: an IPv4 address for itself, an IPv6 address for its network of 64
-- bits, which is the least that a site is given: whoever has one has 2^64 addresses.

local M = {}

local function groups_of(text)
  local groups = {}
  for group in text:gmatch("[^:]+") do groups[#groups + 1] = group end
  return groups
end

---@param peer string as the host tells it
---@return string
function M.network(peer)
  if not peer:find(":", 1, true) or peer:find(".", 1, true) then return peer end -- IPv4, perhaps written as IPv6
  local head, tail = peer:match("^(.-)::(.*)$")
  local groups = groups_of(head or peer)
  if head then
    local zeros = 8 - #groups - #groups_of(tail)
    for _ = 1, zeros do groups[#groups + 1] = "0" end
    for _, group in ipairs(groups_of(tail)) do groups[#groups + 1] = group end
  end
  return table.concat(groups, ":", 1, math.min(4, #groups)) .. "::/64"
end

return M
