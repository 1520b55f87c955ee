-- Credentials of calls and the resolvers that are asked about them in order. A resolver gives an identity, nothing when
-- the credential is not of its kind, or nil and a reason when it is of its kind and bad: that ends the search. What was
-- good is remembered by the digest of the credential, so that a signature is verified once and not per call.

local crypto = require("host.crypto")
local sys = require("host.sys")

local lru = require("macp.core.lru")

local sha256 = crypto.sha256
local sub = string.sub

local BEARER = "Bearer "
local MAX_BYTES = 8192
local REMEMBERED = 4096

---@class macp.auth.Resolver
---@field name string
---@field resolve fun(self, credential: string, is_bearer: boolean): macp.auth.Identity|nil, string|nil, string|nil, integer|nil
---  identity, reason, kind of the reason, until when (milliseconds since the epoch) the answer may be remembered

---@class macp.auth.BearerChain
local Chain = {}
Chain.__index = Chain

local M = {}

---The credential among two header values. A Bearer one wins over x-macp-token, also when it is empty.
---@param authorization string|nil
---@param token_header string|nil
---@return string|nil credential, boolean is_bearer
function M.credential(authorization, token_header)
  if authorization and sub(authorization, 1, #BEARER) == BEARER then return sub(authorization, #BEARER + 1), true end
  return token_header, false
end

---@param resolvers macp.auth.Resolver[]
---@param now_ms (fun(): integer)|nil
---@return macp.auth.BearerChain
function M.new(resolvers, now_ms)
  local chain = setmetatable({ resolvers = resolvers, now_ms = now_ms or sys.now_ms }, Chain)
  chain:forget()
  return chain
end

---Names of the resolvers, e.g. "jwt+static".
function Chain:name()
  local names = {}
  for i, resolver in ipairs(self.resolvers) do names[i] = resolver.name end
  return table.concat(names, "+")
end

---Forgets what was good: tokens or keys have changed.
function Chain:forget() self.remembered = { [true] = lru.new(REMEMBERED), [false] = lru.new(REMEMBERED) } end

---The identity of a credential that was found good before, or nil. Costs one digest.
---@param credential string
---@param is_bearer boolean
---@return macp.auth.Identity|nil
function Chain:known(credential, is_bearer)
  if #credential > MAX_BYTES then return nil end
  local digest = sha256(credential)
  local entry = self.remembered[is_bearer]:get(digest)
  if entry == nil then return nil end
  if entry.until_ms == nil or self.now_ms() < entry.until_ms then return entry.identity end
  self.remembered[is_bearer]:remove(digest)
  return nil
end

local function ask(self, credential, is_bearer)
  local resolvers = self.resolvers
  for i = 1, #resolvers do
    local identity, reason, kind, until_ms = resolvers[i]:resolve(credential, is_bearer)
    if identity or reason then return identity, reason, kind, until_ms end
  end
  return nil, "no resolver takes credentials of this kind"
end

---The identity behind a credential, or nil, why not (for the log, never for the caller) and a word for counters:
---"missing", "invalid", or "unavailable" when it cannot be known now. (yields when keys must be fetched)
---@param credential string|nil
---@param is_bearer boolean
---@return macp.auth.Identity|nil identity, string? reason, string? kind
function Chain:resolve(credential, is_bearer)
  if credential == nil then return nil, "no credential", "missing" end
  if credential == "" then return nil, "the credential is empty", "invalid" end
  if #credential > MAX_BYTES then return nil, "the credential is too long", "invalid" end
  local identity, reason, kind, until_ms = ask(self, credential, is_bearer)
  if identity == nil then return nil, reason, kind or "invalid" end
  if until_ms == nil or self.now_ms() < until_ms then
    self.remembered[is_bearer]:set(sha256(credential), { identity = identity, until_ms = until_ms })
  end
  return identity
end

return M
