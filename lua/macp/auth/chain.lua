-- Resolvers of credentials, asked in order. A resolver gives an actor, or nothing when the credential is not of its
-- kind, or nil and an error when it recognises the credential as invalid: that ends the search.

local errors = require("macp.core.errors")
local scopes = require("macp.auth.scopes")

---@class macp.Actor
---@field id string
---@field type string e.g. "api-key"
---@field tenant string
---@field scopes table<string, boolean>|nil nil: everything

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

---Whether an actor's scopes include this one.
---@param actor macp.Actor
---@param scope string
---@return boolean
function Chain.allows(_, actor, scope)
  return scopes.allows(actor, scope)
end

return M
