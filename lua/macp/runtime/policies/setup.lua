-- Where the policies of a runtime come from, by its settings: files, its store, or nowhere but memory.

local fs = require("host.fs")
local log = require("host.log")

local directory = require("macp.runtime.policies.directory")
local errors = require("macp.core.errors")
local policies = require("macp.runtime.policies")

local M = {}

local function failed(text) return nil, errors.new("INTERNAL_ERROR", text) end

-- Policies of MACP_POLICIES_DIR: what was registered before stays on disk and is not served. (yields)
local function open_files(cfg, registry, place)
  local opened, problems = directory.load(registry, cfg.policies_dir)
  if opened == nil then
    local list = {}
    for i, problem in ipairs(problems) do list[i] = { message = problem } end
    return nil, errors.validation(list)
  end
  registry.directory = opened
  local unused = place and place:load()
  if unused and #unused.policies > 0 then
    log.warn("policies.registered_unused", { where = place.where, variable = directory.VARIABLE })
  end
  return registry
end

-- (yields)
local function open_stored(cfg, registry, where)
  local left_behind = cfg.data_dir .. "/policies"
  if not cfg.memory_only and where ~= left_behind and fs.stat(left_behind) then
    log.warn("policies.files_unused", { dir = left_behind, where = where })
  end
  local count, problems = registry:restore()
  if count == nil then
    return failed(string.format("registered policies in %s: %s", where, problems.message))
  end
  if #problems > 0 and cfg.strict_recovery then
    return failed(string.format("registered policies in %s: %s", where,
      table.concat(problems, "\n")))
  end
  for _, problem in ipairs(problems) do log.error("policy.unreadable", { where = where, message = problem }) end
  if count > 0 then log.info("policies.restored", { count = count }) end
  return registry
end

---The policies of a runtime, loaded. (yields)
---@param cfg table the section `runtime` of the settings
---@param modes table mode registry, loaded
---@param now_ms fun(): integer
---@param place table|nil where registered policies are kept, as macp.runtime.policies.store; nil: nowhere
---@return table|nil registry of macp.runtime.policies; table? err
function M.open(cfg, modes, now_ms, place)
  local registry = policies.new({
    modes = modes, now_ms = now_ms, strict = cfg.strict_policies,
    store = cfg.policies_dir == nil and place or nil,
  })
  if cfg.policies_dir ~= nil then return open_files(cfg, registry, place) end
  return open_stored(cfg, registry, registry.store.where)
end

return M
