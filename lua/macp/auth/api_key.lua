-- API keys of the HTTP interface, sent as `Authorization: Bearer KEY` or as the bare key. Only digests are kept.
-- Without keys everybody may call, unless a keys file is there to bring some.

local crypto = require("host.crypto")
local log = require("host.log")
local sys = require("host.sys")

local errors = require("macp.core.errors")
local key_entries = require("macp.auth.key_entries")
local tenants = require("macp.core.tenants")

local OPEN_ACTOR = { id = "anonymous", type = "anonymous", tenant = tenants.FIRST }

---@class macp.ApiKeys
local ApiKeys = {}
ApiKeys.__index = ApiKeys

local M = {}

-- What a request acts as. Without a name it is derived from the digest: no part of a key shows up in logs or audit entries.
local function actor_of(entry)
  return {
    id = entry.name or crypto.hex(entry.digest):sub(1, 8), type = "api-key", tenant = entry.tenant,
    scopes = entry.scopes, expires_ms = entry.expires_ms,
  }
end

local function same_scopes(left, right)
  if left == nil or right == nil then return left == right end
  for scope in pairs(left) do if not right[scope] then return false end end
  for scope in pairs(right) do if not left[scope] then return false end end
  return true
end

local function is_same(left, right)
  return left.id == right.id and left.tenant == right.tenant and left.expires_ms == right.expires_ms
    and same_scopes(left.scopes, right.scopes)
end

---Puts other entries in the place of all. Actors whose entry is gone or changed are marked `revoked`: who holds one
---for longer than a request looks at it (http/sse.lua).
---@param entries macp.KeyEntry[]
function ApiKeys:replace(entries)
  local before, found = self.by_digest, {}
  for _, entry in ipairs(entries) do
    local actor, known = actor_of(entry), before[entry.digest]
    if known and is_same(known.actor, actor) then actor = known.actor end
    found[entry.digest] = { digest = entry.digest, actor = actor }
  end
  for digest, known in pairs(before) do
    if found[digest] == nil or found[digest].actor ~= known.actor then known.actor.revoked = true end
  end
  self.by_digest, self.count = found, #entries
end

---@param entries macp.KeyEntry[]|string[] entries, or plain keys
---@param opts { is_open_on_purpose: boolean|nil, is_closed: boolean|nil, now_ms: function|nil }|nil
--- is_open_on_purpose: no keys is what the user wants, no warning; is_closed: without keys nobody may call
---@return macp.ApiKeys
function M.new(entries, opts)
  opts = opts or {}
  if type(entries[1]) == "string" then entries = assert(key_entries.of_list(entries, "keys")) end
  local self = setmetatable({ by_digest = {}, count = 0, is_open = #entries == 0 and not opts.is_closed,
    now_ms = opts.now_ms or sys.now_ms }, ApiKeys)
  self:replace(entries)
  if self.is_open then
    local level = opts.is_open_on_purpose and "info" or "warn"
    log[level]("auth.open", { message = "no API keys are configured: every request is accepted" })
  end
  return self
end

local function unauthenticated(message)
  return nil, errors.new("UNAUTHENTICATED", nil, message)
end

---@param request { headers: table<string, string> }
---@return macp.Actor|nil
---@return macp.Error|nil
function ApiKeys:resolve(request)
  if self.is_open then return OPEN_ACTOR end
  local value = request.headers["authorization"]
  if value == nil then return unauthenticated("Missing Authorization header") end
  local token = value:match("^Bearer (.*)$") or value
  if token == "" or token == "Bearer" then return unauthenticated("Empty authorization token") end
  -- Digests are found and compared, never keys: the time tells nothing of a key, nor does it grow with their number.
  local digest = crypto.sha256(token)
  local entry = self.by_digest[digest]
  if entry == nil or not crypto.equal(digest, entry.digest) then
    return unauthenticated("Invalid authorization token")
  end
  local found = entry.actor
  if found.expires_ms and self.now_ms() >= found.expires_ms then
    return unauthenticated("Expired authorization token")
  end
  return found
end

return M
