-- Which credentials the settings ask for, where they are read, and when they are read again. What is wrong at the start
-- refuses it, one line per problem; what turns bad later is logged, and the last good state stays.

local fetch = require("host.fetch")
local host_log = require("host.log")

local bearer_chain = require("macp.auth.bearer_chain")
local dev = require("macp.auth.dev")
local json = require("macp.core.json")
local jwks = require("macp.auth.jwks")
local jwks_source = require("macp.auth.jwks_source")
local jwt_bearer = require("macp.auth.jwt_bearer")
local settings = require("macp.runtime.settings")
local static_bearer = require("macp.auth.static_bearer")
local watched_file = require("macp.core.watched_file")

local MAX_TOKENS_BYTES = 4 * 1024 * 1024
local FETCH_MS, CONNECT_MS = 5000, 3000
local ALGORITHMS = { RS256 = true, ES256 = true, HS256 = true }
local DEFAULT_ALGORITHMS = { "RS256", "ES256" }
local LOOPBACK = { ["127.0.0.1"] = true, localhost = true, ["[::1]"] = true }

---@class macp.runtime.Credentials
local Credentials = {}
Credentials.__index = Credentials

local M = {}

local function add(problems, variable, text) problems[#problems + 1] = variable .. ": " .. text end

-- The allow-list of algorithms. Unknown names are dropped with a warning; nothing left means the default.
local function algorithms(cfg)
  local algs = {}
  for _, name in ipairs(cfg.auth_jwt_algs) do
    local known = name:upper()
    if ALGORITHMS[known] then
      algs[#algs + 1] = known
    else
      host_log.warn("auth.unknown_algorithm", { variable = "MACP_AUTH_JWT_ALGS", algorithm = name })
    end
  end
  return #algs > 0 and algs or DEFAULT_ALGORITHMS
end

local function fetcher(url)
  return function()
    local reply, err = fetch.request({
      url = url, timeout_ms = FETCH_MS, connect_timeout_ms = CONNECT_MS, max_body_bytes = jwks.MAX_BYTES,
      headers = { accept = "application/json" },
    })
    if reply == nil then return nil, err end
    if reply.status >= 200 and reply.status <= 299 then return reply.body end
    return nil, { message = "the answer has status " .. reply.status }
  end
end

-- (yields)
local function file_source(self, path, problems)
  local source = jwks_source.new({ name = "MACP_AUTH_JWKS_FILE" })
  self.jwks_file = watched_file.new({ path = path, max_bytes = jwks.MAX_BYTES })
  local text, err = self.jwks_file:read()
  local ok, reason = nil, err and err.message
  if text then ok, reason = source:accept(text) end
  if not ok then add(problems, "MACP_AUTH_JWKS_FILE", reason) end
  return source
end

local function url_source(url, ttl_ms, problems)
  local scheme, host = url:match("^(https?)://([^/?#]+)")
  if scheme == nil then
    add(problems, "MACP_AUTH_JWKS_URL", "must be an http or https URL")
    return nil
  end
  host = host:gsub("^.*@", ""):gsub(":%d+$", "")
  if scheme == "http" and not LOOPBACK[host] then
    host_log.warn("jwks.plaintext", { variable = "MACP_AUTH_JWKS_URL", reason = "who sits on the way can give keys" })
  end
  return jwks_source.new({ name = "MACP_AUTH_JWKS_URL", load = fetcher(url), ttl_ms = ttl_ms })
end

-- Where the issuer's keys come from. (yields)
local function open_source(self, cfg, problems)
  if cfg.auth_jwks_json ~= nil then
    local source = jwks_source.new({ name = "MACP_AUTH_JWKS_JSON" })
    local ok, reason = source:accept(json.encode(cfg.auth_jwks_json))
    if not ok then add(problems, "MACP_AUTH_JWKS_JSON", reason) end
    return source
  end
  if cfg.auth_jwks_file ~= nil then return file_source(self, cfg.auth_jwks_file, problems) end
  if cfg.auth_jwks_url ~= nil then
    return url_source(cfg.auth_jwks_url, cfg.auth_jwks_ttl_secs * 1000, problems)
  end
  add(problems, "MACP_AUTH_ISSUER",
    "the issuer's keys are missing: set MACP_AUTH_JWKS_JSON, MACP_AUTH_JWKS_FILE or MACP_AUTH_JWKS_URL")
  return nil
end

-- (yields)
local function open_jwt(self, cfg, problems)
  if cfg.auth_issuer == nil then
    for variable, value in pairs({
      MACP_AUTH_JWKS_JSON = cfg.auth_jwks_json, MACP_AUTH_JWKS_FILE = cfg.auth_jwks_file,
      MACP_AUTH_JWKS_URL = cfg.auth_jwks_url,
    }) do
      if value ~= nil then
        host_log.warn("auth.keys_unused", { variable = variable, reason = "MACP_AUTH_ISSUER is not set" })
      end
    end
    return
  end
  self.source = open_source(self, cfg, problems)
  if self.source == nil then return end
  self.jwt = jwt_bearer.new({
    issuer = cfg.auth_issuer, audience = cfg.auth_audience, algs = algorithms(cfg), keys = self.source,
  })
end

-- Entries of a token document; a token nobody can ever present is worth a warning.
local function parse_tokens(self, text)
  local entries, reason = static_bearer.parse(text)
  if entries == nil then return nil, reason end
  for _, i in ipairs(static_bearer.dotted(entries)) do
    host_log.warn("auth.token_unusable", {
      variable = self.tokens_variable, entry = i, reason = "a token with a dot is never taken for a static one",
    })
  end
  return entries
end

-- (yields)
local function open_tokens(self, cfg, problems)
  local text, err
  if cfg.auth_tokens_json ~= nil then
    self.tokens_variable, text = "MACP_AUTH_TOKENS_JSON", json.encode(cfg.auth_tokens_json)
  elseif cfg.auth_tokens_file ~= nil then
    self.tokens_variable = "MACP_AUTH_TOKENS_FILE"
    self.tokens_file = watched_file.new({ path = cfg.auth_tokens_file, max_bytes = MAX_TOKENS_BYTES })
    text, err = self.tokens_file:read()
  else
    self.static = static_bearer.new({})
    return
  end
  local entries, reason = nil, err and err.message
  if text then entries, reason = parse_tokens(self, text) end
  if entries == nil then add(problems, self.tokens_variable, reason) end
  self.static = static_bearer.new(entries or {})
end

local function check_certificates(cfg, problems)
  if cfg.tls_identity ~= "san-uri" then return end
  local has_tls = cfg.tls_cert_path ~= nil and cfg.tls_key_path ~= nil
  if not has_tls or cfg.tls_client_auth == "none" then
    add(problems, "MACP_TLS_IDENTITY", "san-uri needs MACP_TLS_CERT_PATH, MACP_TLS_KEY_PATH and MACP_TLS_CLIENT_AUTH "
      .. "optional or require")
  end
end

-- Development identities when nothing else is configured and insecurity is allowed.
local function open_chain(self, cfg, problems)
  local resolvers = {}
  if self.jwt then resolvers[#resolvers + 1] = self.jwt end
  if self.static.count > 0 then resolvers[#resolvers + 1] = self.static end
  self.uses_certificates = cfg.tls_identity == "san-uri"
  if #resolvers == 0 and not self.uses_certificates and #problems == 0 then
    if not cfg.allow_insecure then
      problems[1] = "no authentication configured: set MACP_AUTH_TOKENS_JSON, MACP_AUTH_TOKENS_FILE or "
        .. "MACP_AUTH_ISSUER, or MACP_ALLOW_INSECURE=1 for development"
    else
      local level = settings.level_of_openness(cfg)
      host_log[level]("auth.insecure", { reason = "every bearer value is accepted as an identity" })
      resolvers[1] = dev.new(cfg.dev_observers)
    end
  end
  self.chain = bearer_chain.new(resolvers)
end

local function notify(self)
  self.chain:forget()
  for _, fn in ipairs(self.listeners) do fn() end
end

local function replace_tokens(self, text, err)
  local entries, reason = nil, err and err.message
  if text then entries, reason = parse_tokens(self, text) end
  if entries == nil then
    host_log.error("auth.reload_failed", { variable = self.tokens_variable, message = reason })
    return
  end
  self.static:replace(entries)
  local resolvers = {}
  if self.jwt then resolvers[1] = self.jwt end
  -- Tokens end development; without any the rest is closed, not open again.
  resolvers[#resolvers + 1] = self.static
  local was_dev = self.chain.resolvers[1] and self.chain.resolvers[1].name == "dev"
  if not (was_dev and self.static.count == 0) then self.chain.resolvers = resolvers end
  host_log.info("auth.tokens_loaded", { tokens = self.static.count })
  notify(self)
end

local function replace_keys(self, text, err)
  local ok, reason = nil, err and err.message
  if text then ok, reason = self.source:accept(text) end
  if not ok then host_log.error("auth.reload_failed", { variable = "MACP_AUTH_JWKS_FILE", message = reason }) end
end

---Reads tokens and keys as the settings of the role say. (yields)
---@param cfg table the section `runtime`
---@return macp.runtime.Credentials|nil credentials, string[]? problems each names its variable
function M.open(cfg)
  local self = setmetatable({ listeners = {} }, Credentials)
  local problems = {}
  open_jwt(self, cfg, problems)
  open_tokens(self, cfg, problems)
  check_certificates(cfg, problems)
  open_chain(self, cfg, problems)
  if #problems > 0 then return nil, problems end
  return self
end

---Starts following files and keys; until then nothing runs in the background.
function Credentials:follow()
  if self.source then self.source:on_change(function() notify(self) end) end
  if self.tokens_file then self.tokens_file:watch(function(text, err) replace_tokens(self, text, err) end) end
  if self.jwks_file then self.jwks_file:watch(function(text, err) replace_keys(self, text, err) end) end
end

---Calls fn() when tokens or keys have changed, after the chain knows them.
function Credentials:on_change(fn) self.listeners[#self.listeners + 1] = fn end

---Names of what is asked, for the log.
function Credentials:name()
  local name = self.chain:name()
  if not self.uses_certificates then return name end
  return name == "" and "certificate" or "certificate+" .. name
end

---Reads files again and asks for keys anew; with bad ones the old stay. (yields)
function Credentials:reload()
  if self.tokens_file then replace_tokens(self, self.tokens_file:read()) end
  if self.jwks_file then replace_keys(self, self.jwks_file:read()) end
  if self.source and self.source.load and self.source.set then self.source:start_attempt() end
end

---Ends what runs in the background. (yields)
function Credentials:close()
  if self.tokens_file then self.tokens_file:close() end
  if self.jwks_file then self.jwks_file:close() end
  if self.source then self.source:close() end
end

return M
