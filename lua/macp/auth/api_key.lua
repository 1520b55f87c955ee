-- API keys of the HTTP interface: a fixed list, sent as `Authorization: Bearer KEY` or as the bare key.
-- Without keys everybody may call.

local crypto = require("host.crypto")
local log = require("host.log")

local errors = require("macp.core.errors")

local TENANT = "default"
local OPEN_ACTOR = { id = "anonymous", type = "anonymous", tenant = TENANT }

---@class macp.ApiKeys
local ApiKeys = {}
ApiKeys.__index = ApiKeys

local M = {}

---@param keys string[]
---@param opts { is_open_on_purpose: boolean|nil }|nil no keys is what the user wants: no warning
---@return macp.ApiKeys
function M.new(keys, opts)
  local entries = {}
  for i, key in ipairs(keys) do
    local digest = crypto.sha256(key)
    -- The identity is derived from the digest: no part of the key shows up in logs or audit entries.
    entries[i] = {
      digest = digest, actor = { id = crypto.hex(digest):sub(1, 8), type = "api-key", tenant = TENANT },
    }
  end
  if #entries == 0 then
    local level = opts and opts.is_open_on_purpose and "info" or "warn"
    log[level]("auth.open", { message = "no API keys are configured: every request is accepted" })
  end
  return setmetatable({ entries = entries }, ApiKeys)
end

local function unauthenticated(message)
  return nil, errors.new("UNAUTHENTICATED", nil, message)
end

---@param request { headers: table<string, string> }
---@return macp.Actor|nil
---@return macp.Error|nil
function ApiKeys:resolve(request)
  local entries = self.entries
  if #entries == 0 then return OPEN_ACTOR end
  local value = request.headers["authorization"]
  if value == nil then return unauthenticated("Missing Authorization header") end
  local token = value:match("^Bearer (.*)$") or value
  if token == "" or token == "Bearer" then return unauthenticated("Empty authorization token") end
  local digest, found = crypto.sha256(token), nil
  for i = 1, #entries do -- all of them, whatever matches: the time tells nothing
    if crypto.equal(digest, entries[i].digest) then found = entries[i].actor end
  end
  if found == nil then return unauthenticated("Invalid authorization token") end
  return found
end

return M
