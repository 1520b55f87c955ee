-- Who is calling over gRPC: the client certificate if those are identities here, else the credential in the metadata.

local log = require("host.log")
local sys = require("host.sys")

local bearer_chain = require("macp.auth.bearer_chain")
local certificate = require("macp.auth.certificate")
local peers = require("macp.runtime.peers")

local credential_of = bearer_chain.credential

local LOG_EVERY_MS = 1000 -- refused credentials are counted all, and logged this often

-- What callers are told; the reason itself is for the log.
local PUBLIC = {
  missing = "no credential", invalid = "the credential is not valid",
  unavailable = "the credential cannot be checked at the moment",
  limited = "too many refused credentials from this address",
}

local Resolver = {}
Resolver.__index = Resolver

local M = {}

---@param chain macp.auth.BearerChain
---@param opts { failures: table, failure_limiter: table, use_certificates: boolean } counter by reason; limit of
---  failures by network; whether verified client certificates are identities
function M.new(chain, opts)
  return setmetatable({
    chain = chain, failures = opts.failures, failure_limiter = opts.failure_limiter,
    certificates = opts.use_certificates and certificate.new() or nil, logged_at = -LOG_EVERY_MS,
  }, Resolver)
end

local function refuse(self, call, kind, reason, code)
  self.failures:inc(kind)
  local now = sys.mono_ms()
  if now - self.logged_at >= LOG_EVERY_MS then
    self.logged_at = now
    log.warn("auth.refused", { reason = reason, peer = call:peer() })
  end
  return nil, PUBLIC[kind], code or "UNAUTHENTICATED"
end

---The identity behind a call, or nil, what the caller may know about why there is none, and the code to answer with:
---UNAUTHENTICATED or RATE_LIMITED. (yields when keys must be fetched)
---@return macp.auth.Identity|nil, string? reason, string? code
function Resolver:identify(call)
  local identity, reason, kind
  if self.certificates then identity, reason = self.certificates:resolve(call:peer_uris()) end
  if identity then return identity end
  if reason then return refuse(self, call, "invalid", reason) end
  local credential, is_bearer = credential_of(call:header("authorization"), call:header("x-macp-token"))
  identity = credential and self.chain:known(credential, is_bearer)
  if identity then return identity end
  -- Too many failures of one network: what is not known to be good is not looked at, so that nobody can guess tokens
  -- or make the runtime verify signatures for ever.
  local network = peers.network_of(call:peer())
  if self.failure_limiter:is_exhausted(network) then
    return refuse(self, call, "limited", PUBLIC.limited, "RATE_LIMITED")
  end
  identity, reason, kind = self.chain:resolve(credential, is_bearer)
  if identity then return identity end
  if kind ~= "unavailable" then self.failure_limiter:take(network) end
  return refuse(self, call, kind, reason)
end

---The identity behind a call that had one: nothing is counted or logged. (yields when keys must be fetched)
---@return macp.auth.Identity|nil identity, string? reason, string? kind
function Resolver:again(call)
  if self.certificates then
    local identity = self.certificates:resolve(call:peer_uris())
    if identity then return identity end
  end
  return self.chain:resolve(credential_of(call:header("authorization"), call:header("x-macp-token")))
end

---Whether no credentials are configured at all: any value is an identity then.
function Resolver:is_open()
  local first = self.chain.resolvers[1]
  return first ~= nil and first.name == "dev"
end

return M
