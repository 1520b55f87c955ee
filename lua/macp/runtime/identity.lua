-- Who is calling over gRPC: the credential in a call's metadata, resolved by the configured resolver.

local log = require("host.log")
local sys = require("host.sys")

local peers = require("macp.runtime.peers")

local sub = string.sub

local BEARER = "Bearer "
local MAX_CREDENTIAL_BYTES = 4096
local CACHE_LIMIT = 4096
local LOG_EVERY_MS = 1000 -- refused credentials are counted all, and logged this often

local Resolver = {}
Resolver.__index = Resolver

local M = {}

---@param resolver table auth.dev or auth.static_bearer
---@param opts { failures: table, failure_limiter: table } counter by reason; limit of failures by network
function M.new(resolver, opts)
  return setmetatable({
    resolver = resolver, cache = {}, cached = 0, failures = opts.failures, failure_limiter = opts.failure_limiter,
    logged_at = -LOG_EVERY_MS,
  }, Resolver)
end

-- A Bearer credential wins; x-macp-token is the alternative.
local function credential_of(call)
  local value = call:header("authorization")
  if value and sub(value, 1, #BEARER) == BEARER then return sub(value, #BEARER + 1) end
  return call:header("x-macp-token")
end

local function refuse(self, call, kind, reason, code)
  self.failures:inc(kind)
  local now = sys.mono_ms()
  if now - self.logged_at >= LOG_EVERY_MS then
    self.logged_at = now
    log.warn("auth.refused", { reason = reason, peer = call:peer() })
  end
  return nil, reason, code or "UNAUTHENTICATED"
end

-- Too many failures of one network: what is not known to be good is not looked at, so that nobody can guess tokens or
-- make the runtime verify signatures for ever.
local function refuse_failing(self, call)
  return refuse(self, call, "limited", "too many refused credentials from this address", "RATE_LIMITED")
end

local function fail(self, call, network, kind, reason)
  self.failure_limiter:take(network)
  return refuse(self, call, kind, reason)
end

---The identity behind a call, or nil, why there is none and the code to answer with: UNAUTHENTICATED or RATE_LIMITED.
---The same credential yields the same table.
---@return macp.auth.Identity|nil, string? reason, string? code
function Resolver:identify(call)
  local credential = credential_of(call)
  local identity = credential and self.cache[credential]
  if identity then return identity end
  local network = peers.network_of(call:peer())
  if self.failure_limiter:is_exhausted(network) then return refuse_failing(self, call) end
  if credential == nil then return fail(self, call, network, "missing", "no credential") end
  if #credential > MAX_CREDENTIAL_BYTES then
    return fail(self, call, network, "invalid", "the credential is too long")
  end
  local reason
  identity, reason = self.resolver:resolve(credential)
  if identity == nil then return fail(self, call, network, "invalid", reason) end
  if self.cached >= CACHE_LIMIT then self.cache, self.cached = {}, 0 end
  self.cache[credential], self.cached = identity, self.cached + 1
  return identity
end

---Whether no credentials are configured at all: any value is an identity then.
function Resolver:is_open() return self.resolver.name == "dev" end

---Puts another resolver in place; what the old one answered is forgotten.
function Resolver:replace(resolver) self.resolver, self.cache, self.cached = resolver, {}, 0 end

return M
