-- What the settings of the role mean together, checked before anything is opened: who may call, over what. All problems
-- are found at once, each names its variable.

local credentials = require("macp.runtime.credentials")
local ingress = require("macp.runtime.ingress")
local providers = require("macp.runtime.providers")
local settings = require("macp.runtime.settings")
local tls = require("macp.runtime.tls")

local M = {}

---@class macp.runtime.Preflight
---@field credentials macp.runtime.Credentials who callers are; nothing follows its files yet
---@field tls table|false options of host.rpc; false for plaintext
---@field ingress macp.runtime.Ingress|nil the site's own gate
---@field providers macp.runtime.SiteFile|nil the site's extension providers
---@field warnings string[] what is allowed and perhaps not meant

---@param cfg table the section `runtime` of the settings
---@return macp.runtime.Preflight|nil found, string[]? problems
function M.run(cfg)
  local problems = settings.problems(cfg)
  local callers, more = credentials.open(cfg)
  for _, problem in ipairs(more or {}) do problems[#problems + 1] = problem end
  local transport
  transport, more = tls.load(cfg)
  for _, problem in ipairs(more or {}) do problems[#problems + 1] = problem end
  local gate, list, problem
  if cfg.ingress_file ~= nil then gate, problem = ingress.load(cfg.ingress_file) end
  problems[#problems + 1], problem = problem, nil
  if cfg.extensions_file ~= nil then list, problem = providers.load(cfg.extensions_file) end
  problems[#problems + 1] = problem
  if #problems > 0 then return nil, problems end
  return { credentials = callers, tls = transport, ingress = gate, providers = list,
    warnings = tls.warnings(cfg, transport) }
end

return M
