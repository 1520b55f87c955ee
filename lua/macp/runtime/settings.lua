-- What the settings of the role mean together: who may call, and over what. Every problem names its variable.

local fs = require("host.fs")
local host_log = require("host.log")

local dev = require("macp.auth.dev")
local errors = require("macp.core.errors")
local json = require("macp.core.json")
local static_bearer = require("macp.auth.static_bearer")

local MAX_TOKENS_BYTES = 4 * 1024 * 1024

local M = {}

local function refuse(message) return nil, errors.new("VALIDATION_ERROR", message) end

-- Token entries from the inline setting or the file. (yields)
local function read_tokens(cfg)
  if cfg.auth_tokens_json ~= nil then
    local entries, reason = static_bearer.parse(json.encode(cfg.auth_tokens_json))
    if entries == nil then return refuse("MACP_AUTH_TOKENS_JSON: " .. reason) end
    return entries
  end
  if cfg.auth_tokens_file ~= nil then
    local text, err = fs.read(cfg.auth_tokens_file, MAX_TOKENS_BYTES)
    if text == nil then return refuse("MACP_AUTH_TOKENS_FILE: " .. err.message) end
    local entries, reason = static_bearer.parse(text)
    if entries == nil then return refuse("MACP_AUTH_TOKENS_FILE: " .. reason) end
    return entries
  end
  return {}
end

-- `macp dev` is open on purpose and says so itself; anywhere else it deserves a warning.
local function level_of_openness(cfg) return rawget(cfg, "is_open_on_purpose") and "info" or "warn" end

---The resolver of identities: static tokens, or development identities when nothing is configured and insecurity is
---allowed. (yields)
---@return table|nil resolver, table? err
function M.resolver(cfg)
  local entries, err = read_tokens(cfg)
  if entries == nil then return nil, err end
  if #entries > 0 then return static_bearer.new(entries) end
  if not cfg.allow_insecure then
    return refuse("no authentication configured: set MACP_AUTH_TOKENS_JSON or MACP_AUTH_TOKENS_FILE, "
      .. "or MACP_ALLOW_INSECURE=1 for development")
  end
  host_log[level_of_openness(cfg)]("auth.insecure", { reason = "every bearer value is accepted as an identity" })
  return dev.new(cfg.dev_observers)
end

---Problems between settings that each are fine on their own.
---@return string[]
function M.problems(cfg)
  local problems = {}
  if cfg.list_sessions_default_page_size > cfg.list_sessions_max_page_size then
    problems[1] = "MACP_LIST_SESSIONS_DEFAULT_PAGE_SIZE: must not be above MACP_LIST_SESSIONS_MAX_PAGE_SIZE"
  end
  return problems
end

---Tells that the interface is open, when it is.
---@param has_tls boolean
function M.announce(cfg, has_tls)
  if has_tls then return end
  host_log[level_of_openness(cfg)]("tls.off", { reason = "the gRPC interface is in plain text" })
end

return M
