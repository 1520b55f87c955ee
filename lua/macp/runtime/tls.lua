-- TLS of the gRPC interface: certificate, key and client authorities from files, checked before they are used, and
-- read again when one of them changes. Connections that are made afterwards see the new ones; a bad set changes nothing.

local fs = require("host.fs")
local log = require("host.log")
local sys = require("host.sys")
local task = require("host.task")
local x509 = require("host.x509")

local time = require("macp.core.time")

local MAX_PEM_BYTES = 4 * 1024 * 1024
local PERIOD_MS = 1000 -- a look at three files; it survives exchanged links, which a watch does not

local FILES = {
  { key = "cert_pem", setting = "tls_cert_path", env = "MACP_TLS_CERT_PATH", is_certificate = true },
  { key = "key_pem", setting = "tls_key_path", env = "MACP_TLS_KEY_PATH" },
  { key = "client_ca_pem", setting = "tls_client_ca_path", env = "MACP_TLS_CLIENT_CA_PATH", is_certificate = true },
}

local Certificates = {}
Certificates.__index = Certificates

local M = {}

-- Whether the settings ask for TLS; nil and the problem when they say neither that nor plaintext.
local function is_wanted(cfg)
  local has_cert, has_key = cfg.tls_cert_path ~= nil, cfg.tls_key_path ~= nil
  if has_cert and has_key then return true end
  if cfg.allow_insecure then return false end
  if has_cert then return nil, "MACP_TLS_KEY_PATH: set it to the private key of MACP_TLS_CERT_PATH" end
  if has_key then return nil, "MACP_TLS_CERT_PATH: set it to the certificate of MACP_TLS_KEY_PATH" end
  return nil, "no TLS configured: set MACP_TLS_CERT_PATH and MACP_TLS_KEY_PATH, or MACP_ALLOW_INSECURE=1"
end

-- Reads one file into tls; notes what is wrong with it. (yields)
local function read_file(cfg, file, tls, problems)
  local path = cfg[file.setting]
  if path == nil then return end
  local function note(text) problems[#problems + 1] = string.format("%s: %s: %s", file.env, path, text) end
  local pem, err = fs.read(path, MAX_PEM_BYTES)
  if pem == nil then return note(err.message) end
  if file.is_certificate then
    local facts
    facts, err = x509.read(pem)
    if facts == nil then return note(err.message) end
    if file.key == "cert_pem" then tls.facts = facts end
  end
  tls[file.key] = pem
end

-- Files that are named must be there, also when there is no TLS: one of a pair that is misspelt must not be plaintext.
local function check_named(cfg)
  local problems = {}
  for _, file in ipairs(FILES) do
    local path = cfg[file.setting]
    if path and not fs.stat(path) then
      problems[#problems + 1] = string.format("%s: %s: No such file or directory", file.env, path)
    end
  end
  return #problems == 0, problems
end

---TLS options for host.rpc with the certificate's `facts`; false for plaintext; nil and all problems, each naming its
---variable. (yields)
---@return table|false|nil tls, string[]? problems
function M.load(cfg)
  local wanted, problem = is_wanted(cfg)
  if wanted == nil then return nil, { problem } end
  if not wanted then
    local ok, problems = check_named(cfg)
    if not ok then return nil, problems end
    return false
  end
  local tls, problems = { client_auth = cfg.tls_client_auth }, {}
  for _, file in ipairs(FILES) do read_file(cfg, file, tls, problems) end
  if tls.cert_pem and tls.key_pem then
    local ok, err = x509.check_pair(tls.cert_pem, tls.key_pem)
    if not ok then
      problems[#problems + 1] = string.format("MACP_TLS_KEY_PATH: %s: %s", cfg.tls_key_path, err.message)
    end
  end
  if cfg.tls_client_auth ~= "none" and cfg.tls_client_ca_path == nil then
    problems[#problems + 1] = "MACP_TLS_CLIENT_AUTH: set MACP_TLS_CLIENT_CA_PATH as well"
  end
  if #problems > 0 then return nil, problems end
  return tls
end

---What is worth a warning: settings without effect, a certificate outside its time.
---@param tls table|false what `load` returned
---@return string[]
function M.warnings(cfg, tls)
  if not tls then
    if (cfg.tls_cert_path ~= nil) == (cfg.tls_key_path ~= nil) then return {} end
    return { "only one of MACP_TLS_CERT_PATH and MACP_TLS_KEY_PATH is set: no TLS" }
  end
  local warnings, now = {}, sys.now_ms()
  if cfg.tls_client_auth == "none" and cfg.tls_client_ca_path ~= nil then
    warnings[1] = "MACP_TLS_CLIENT_CA_PATH has no effect while MACP_TLS_CLIENT_AUTH is none"
  end
  local facts = tls.facts
  if now > facts.not_after_ms then
    warnings[#warnings + 1] = "MACP_TLS_CERT_PATH: the certificate ended on " .. time.iso(facts.not_after_ms)
  elseif now < facts.not_before_ms then
    warnings[#warnings + 1] = "MACP_TLS_CERT_PATH: the certificate begins on " .. time.iso(facts.not_before_ms)
  end
  return warnings
end

-- What differs whenever a file may differ. (yields)
local function signature(cfg)
  local parts = {}
  for _, file in ipairs(FILES) do
    local path = cfg[file.setting]
    local info = path and fs.stat(path)
    parts[#parts + 1] = info and string.format("%s:%s", info.size, info.mtime_ms) or "-"
    parts[#parts + 1] = path and fs.realpath(path) or "-"
  end
  return table.concat(parts, " ")
end

local function describe(tls) return { subject = tls.facts.subject, not_after = time.iso(tls.facts.not_after_ms) } end

---Reads the files again and gives them to the server; when something is wrong the present ones stay. (yields)
---@return boolean changed
function Certificates:reload()
  local cfg = self.cfg
  self.seen = signature(cfg)
  local tls, problems = M.load(cfg)
  if not tls then
    for _, problem in ipairs(problems) do log.error("tls.reload_failed", { message = problem }) end
    return false
  end
  local text = tls.cert_pem .. tls.key_pem .. (tls.client_ca_pem or "")
  if text == self.text then return false end
  local ok, err = self.server:set_tls(tls)
  if not ok then
    log.error("tls.reload_failed", { message = err.message })
    return false
  end
  self.text = text
  log.info("tls.reloaded", describe(tls))
  for _, warning in ipairs(M.warnings(cfg, tls)) do log.warn("tls.warning", { message = warning }) end
  return true
end

---Keeps a listening server's certificates those of the files.
---@param server table host.rpc server
---@param tls table what it listens with
---@param period_ms integer|nil between two looks at the files
function M.follow(cfg, server, tls, period_ms)
  local self = setmetatable({
    cfg = cfg, server = server, text = tls.cert_pem .. tls.key_pem .. (tls.client_ca_pem or ""),
    seen = signature(cfg),
  }, Certificates)
  log.info("tls.loaded", describe(tls))
  self.ticker = task.every(period_ms or PERIOD_MS, function()
    if signature(cfg) ~= self.seen then self:reload() end
  end)
  return self
end

---Ends the looks at the files.
function Certificates:stop() self.ticker:stop() end

return M
