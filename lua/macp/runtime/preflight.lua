-- What the settings of the role mean together, checked before anything is opened: who may call, over what. All problems
-- are found at once, each names its variable.

local settings = require("macp.runtime.settings")
local tls = require("macp.runtime.tls")

local M = {}

---@class macp.runtime.Preflight
---@field resolver table who callers are
---@field tls table|false options of host.rpc; false for plaintext
---@field warnings string[] what is allowed and perhaps not meant

---@param cfg table the section `runtime` of the settings
---@return macp.runtime.Preflight|nil found, string[]? problems
function M.run(cfg)
  local problems = settings.problems(cfg)
  local resolver, err = settings.resolver(cfg)
  if resolver == nil then problems[#problems + 1] = err.message end
  local transport, more = tls.load(cfg)
  for _, problem in ipairs(more or {}) do problems[#problems + 1] = problem end
  if #problems > 0 then return nil, problems end
  return { resolver = resolver, tls = transport, warnings = tls.warnings(cfg, transport) }
end

return M
