-- An issuer of signed tokens for specs: real keys, real signatures.

local jws = require("host.jws")
local sys = require("host.sys")

local json = require("macp.core.json")

local Issuer = {}
Issuer.__index = Issuer

local PRIVATE = { d = true, p = true, q = true, dp = true, dq = true, qi = true }
local cached = {} -- RSA keys take their time

local M = {}

---@param opts { alg: string|nil, kid: string|nil, key: table|nil, issuer: string|nil }|nil
function M.new(opts)
  opts = opts or {}
  local alg = opts.alg or "RS256"
  local name = alg .. (opts.kid or "")
  if not opts.key then cached[name] = cached[name] or json.decode(jws.generate(alg)) end
  local self = setmetatable({ alg = alg, issuer = opts.issuer or "https://issuer.test", jwk = {} }, Issuer)
  for member, value in pairs(opts.key or cached[name]) do self.jwk[member] = value end
  self.jwk.kid = opts.kid
  self.keys = jws.keys()
  assert(self.keys:add(self.jwk))
  return self
end

---The public half of the key (a symmetric one has no halves).
function Issuer:public_jwk()
  local half = {}
  for member, value in pairs(self.jwk) do
    if not PRIVATE[member] then half[member] = value end
  end
  return half
end

---The JWKS document of this and other issuers' keys.
function Issuer:jwks(...)
  local list = json.array({ self:public_jwk() })
  for _, other in ipairs({ ... }) do list[#list + 1] = other:public_jwk() end
  return json.encode({ keys = list })
end

---Usual claims, changed as told; a value of json.null stays null, one of false leaves the claim out.
function Issuer:claims(changes)
  local claims = {
    iss = self.issuer, aud = "macp-runtime", sub = "agent://ann", exp = math.floor(sys.now_ms() / 1000) + 300,
  }
  for name, value in pairs(changes or {}) do
    if value == false then claims[name] = nil else claims[name] = value end
  end
  return claims
end

---A token with these claims.
function Issuer:token(changes)
  return assert(self.keys:sign(self.alg, json.encode(self:claims(changes))))
end

return M
