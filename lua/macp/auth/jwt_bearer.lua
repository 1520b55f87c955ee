-- Signed tokens of an issuer: the signature with the issuer's keys, then the claims.

local sys = require("host.sys")

local jwt_claims = require("macp.auth.jwt_claims")

local find = string.find

local REMEMBER_MS = 60000

---@class macp.auth.JwtResolver : macp.auth.Resolver
local Jwt = { name = "jwt" }
Jwt.__index = Jwt

local M = {}

---@param opts { issuer: string, audience: string, algs: string[], keys: macp.auth.JwksSource,
---  now_ms: (fun(): integer)|nil }
function M.new(opts)
  return setmetatable({
    issuer = opts.issuer, audience = opts.audience, algs = opts.algs, keys = opts.keys,
    now_ms = opts.now_ms or sys.now_ms, verifications = 0,
  }, Jwt)
end

-- The claims behind a token; a kid nobody knows makes the source look for newer keys, once. (yields)
local function verify(self, token)
  local keys, reason = self.keys:get()
  if keys == nil then return nil, reason, "unavailable" end
  self.verifications = self.verifications + 1
  local text, err = keys:verify(token, self.algs)
  if text == nil and err.code == "NOT_FOUND" and self.keys:look_again(keys) then
    text, err = self.keys:current():verify(token, self.algs)
  end
  if text == nil then return nil, err.message end
  return text
end

---Claims a bearer credential with a dot in it. (yields when keys must be fetched)
---@return macp.auth.Identity|nil identity, string? reason, string? kind, integer? until_ms
function Jwt:resolve(credential, is_bearer)
  if not is_bearer or not find(credential, ".", 1, true) then return nil end
  local text, reason, kind = verify(self, credential)
  if text == nil then return nil, reason, kind end
  local now = self.now_ms()
  local identity, exp_ms = jwt_claims.read(text, { issuer = self.issuer, audience = self.audience, now_ms = now })
  if identity == nil then return nil, exp_ms end
  return identity, nil, nil, math.min(exp_ms, now + REMEMBER_MS)
end

return M
