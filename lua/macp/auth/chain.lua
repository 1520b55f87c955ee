-- Resolvers of credentials, asked in order. A resolver gives an actor, or nothing when the credential is not of its
-- kind, or nil and an error when it recognises the credential as invalid: that ends the search.

local errors = require("macp.core.errors")
local scopes = require("macp.auth.scopes")
local tenants = require("macp.core.tenants")

---@class macp.Actor
---@field id string
---@field type string e.g. "api-key"
---@field tenant string
---@field scopes table<string, boolean>|nil nil: everything that its tenant may do
---@field expires_ms integer|nil
---@field revoked boolean|nil the key was taken away

---@class macp.AuthChain
local Chain = {}
Chain.__index = Chain

local M = {}

---@param resolvers { resolve: fun(self, request: table): macp.Actor|nil, macp.Error|nil }[]
---@return macp.AuthChain
function M.new(resolvers)
  return setmetatable({ resolvers = resolvers }, Chain)
end

---@param request { headers: table<string, string>, peer: string|nil } an HTTP request, or metadata as headers
---@return macp.Actor|nil
---@return macp.Error|nil UNAUTHENTICATED
function Chain:authenticate(request)
  for _, resolver in ipairs(self.resolvers) do
    local actor, err = resolver:resolve(request)
    if actor or err then return actor, err end
  end
  return nil, errors.new("UNAUTHENTICATED", nil, "Missing Authorization header")
end

---Whether an actor may use a scope, and why not.
---@param actor macp.Actor
---@param scope string
---@return boolean
---@return string? reason
function Chain.allows(_, actor, scope)
  if not scopes.allows(actor, scope) then return false, "missing scope " .. scope end
  if scopes.is_shared(scope) and actor.tenant ~= tenants.FIRST then
    return false, string.format("%s reaches what all tenants share: it is for keys of the tenant %q", scope,
      tenants.FIRST)
  end
  return true
end

return M
