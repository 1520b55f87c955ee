-- Identities of verified client certificates: the one URI among the subject alternative names is the sender. The common
-- name says nothing: authorities do not check it.

local capabilities = require("macp.auth.capabilities")
local lru = require("macp.core.lru")

local KEPT = 4096

local Certificates = { name = "certificate" }
Certificates.__index = Certificates

local M = {}

---Senders of client certificates. What a certificate says does not change, so the latest identities are kept.
function M.new() return setmetatable({ identities = lru.new(KEPT) }, Certificates) end

---@param uris string[]|nil URIs of a verified certificate
---@return macp.auth.Identity|nil identity, string? reason nothing when there is no certificate or no URI in it
function Certificates:resolve(uris)
  if uris == nil or #uris == 0 then return nil end
  if #uris > 1 then return nil, "the client certificate names more than one URI" end
  local uri = uris[1]
  local identity = self.identities:get(uri)
  if identity then return identity end
  local problem = capabilities.sender_problem(uri)
  if problem then return nil, "the URI of the client certificate " .. problem end
  identity = capabilities.identity(uri, {})
  self.identities:set(uri, identity)
  return identity
end

return M
