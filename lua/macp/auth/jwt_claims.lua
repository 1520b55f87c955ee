-- The claims of a verified token: who issued it for whom, until when, and what its bearer may do. RFC 7519 section 4.1,
-- with everything that decides required: a token that leaves a claim out does not escape its check.

local capabilities = require("macp.auth.capabilities")
local json = require("macp.core.json")

local LEEWAY_S = 60
local MAX_TIME_S = 9007199254740 -- milliseconds stay exact

local M = {}

local function is_time(value) return type(value) == "number" and value == value and math.abs(value) < math.huge end

local function check_times(claims, now_s)
  if not is_time(claims.exp) then return "exp is missing or no number" end
  if now_s >= claims.exp + LEEWAY_S then return "the token has expired" end
  local nbf = json.absent(claims.nbf)
  if nbf == nil then return nil end
  if not is_time(nbf) then return "nbf is no number" end
  if now_s < nbf - LEEWAY_S then return "the token is not valid yet" end
  return nil
end

local function has_audience(aud, expected)
  if type(aud) ~= "table" then return aud == expected end
  for _, name in ipairs(aud) do
    if name == expected then return true end
  end
  return false
end

-- Members that are null count as absent.
local function scopes_of(claims)
  local scopes = json.absent(claims.macp_scopes)
  if scopes == nil then return {} end
  if type(scopes) ~= "table" or json.is_array(scopes) then return nil, "macp_scopes is no object" end
  local members = {}
  for name, value in pairs(scopes) do members[name] = json.absent(value) end
  local problem = capabilities.problem(members)
  if problem then return nil, "macp_scopes." .. problem end
  return members
end

---The identity that claims give.
---@param text string JSON of the claims
---@param expected { issuer: string, audience: string, now_ms: integer }
---@return macp.auth.Identity|nil identity, integer|string exp_ms when the token expires; without an identity the reason
function M.read(text, expected)
  local claims = json.decode(text)
  if type(claims) ~= "table" or json.is_array(claims) then return nil, "the claims are no JSON object" end
  local problem = check_times(claims, expected.now_ms / 1000)
  if problem then return nil, problem end
  if type(claims.iss) ~= "string" or claims.iss ~= expected.issuer then return nil, "iss is not the issuer" end
  if not has_audience(claims.aud, expected.audience) then return nil, "aud does not name this audience" end
  problem = capabilities.sender_problem(claims.sub)
  if problem then return nil, "sub " .. problem end
  local members
  members, problem = scopes_of(claims)
  if members == nil then return nil, problem end
  local identity = capabilities.identity(claims.sub, members)
  local exp_ms = math.min(claims.exp, MAX_TIME_S) * 1000
  identity.expires_at_ms = exp_ms + LEEWAY_S * 1000
  return identity, exp_ms
end

return M
