-- Where a call comes from: gRPC's text for the other end of a connection, and the network that limits are counted for.

local HEXTETS = 8
local NETWORK_HEXTETS = 4 -- a /64: what one subscriber of IPv6 is given

local M = {}

-- Hexadecimal groups of an IPv6 address, "::" filled with zeros.
local function hextets(text)
  local head, tail = text:match("^(.-)::(.*)$")
  if head == nil then head, tail = text, "" end
  local groups, after = {}, {}
  for group in head:gmatch("[^:]+") do groups[#groups + 1] = group end
  for group in tail:gmatch("[^:]+") do after[#after + 1] = group end
  for _ = 1, HEXTETS - #groups - #after do groups[#groups + 1] = "0" end
  for _, group in ipairs(after) do groups[#groups + 1] = group end
  return groups
end

local function ipv6_network(text)
  text = text:gsub("%%.*$", "") -- the zone of a link-local address
  local mapped = text:match("^::[fF][fF][fF][fF]:(%d+%.%d+%.%d+%.%d+)$")
  if mapped then return mapped end
  local groups, network = hextets(text), {}
  for i = 1, NETWORK_HEXTETS do network[i] = string.format("%x", tonumber(groups[i], 16) or 0) end
  return table.concat(network, ":") .. "::/64"
end

---The network a peer belongs to: an IPv4 address, the /64 of an IPv6 address, or what is written for other transports.
---@param peer string "ipv4:192.0.2.1:4711", "ipv6:%5B2001:db8::1%5D:4711", "unix:..."
---@return string
function M.network_of(peer)
  local v4 = peer:match("^ipv4:(%d+%.%d+%.%d+%.%d+):")
  if v4 then return v4 end
  if peer:sub(1, 5) ~= "ipv6:" then return peer end
  local plain = peer:sub(6):gsub("%%5[Bb]", "["):gsub("%%5[Dd]", "]"):gsub("%%25", "%%")
  local v6 = plain:match("^%[([%x:%.%%%w]+)%]")
  return v6 and ipv6_network(v6) or peer
end

return M
