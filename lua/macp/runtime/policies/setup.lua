-- Where the policies of a runtime come from, by its settings: files, the data directory, or nowhere but memory.

local fs = require("host.fs")
local log = require("host.log")

local directory = require("macp.runtime.policies.directory")
local errors = require("macp.core.errors")
local policies = require("macp.runtime.policies")
local store = require("macp.runtime.policies.store")

local M = {}

local function failed(text) return nil, errors.new("INTERNAL_ERROR", text) end

-- Policies of MACP_POLICIES_DIR: what was registered before stays on disk and is not served. (yields)
local function open_files(cfg, registry, stored_dir)
  local opened, problems = directory.load(registry, cfg.policies_dir)
  if opened == nil then
    local list = {}
    for i, problem in ipairs(problems) do list[i] = { message = problem } end
    return nil, errors.validation(list)
  end
  registry.directory = opened
  if not cfg.memory_only and fs.stat(stored_dir) then
    log.warn("policies.registered_unused", { dir = stored_dir, variable = directory.VARIABLE })
  end
  return registry
end

-- (yields)
local function open_stored(cfg, registry, stored_dir)
  local count, problems = registry:restore()
  if count == nil then
    return failed(string.format("registered policies in %s: %s", stored_dir, problems.message))
  end
  if #problems > 0 and cfg.strict_recovery then
    return failed(string.format("registered policies in %s: %s", stored_dir,
      table.concat(problems, "\n")))
  end
  for _, problem in ipairs(problems) do log.error("policy.unreadable", { dir = stored_dir, message = problem }) end
  if count > 0 then log.info("policies.restored", { count = count }) end
  return registry
end

---The policies of a runtime, loaded. (yields)
---@param cfg table the section `runtime` of the settings
---@param modes table mode registry, loaded
---@param now_ms fun(): integer
---@return table|nil registry of macp.runtime.policies; table? err
function M.open(cfg, modes, now_ms)
  local stored_dir = cfg.data_dir .. "/policies"
  local registry = policies.new({
    modes = modes, now_ms = now_ms, strict = cfg.strict_policies,
    store = not cfg.memory_only and cfg.policies_dir == nil and store.new(stored_dir) or nil,
  })
  if cfg.policies_dir ~= nil then return open_files(cfg, registry, stored_dir) end
  return open_stored(cfg, registry, stored_dir)
end

return M
