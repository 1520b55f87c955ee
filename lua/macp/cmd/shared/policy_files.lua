-- Checking policy files without serving them: the dry run of the runtime and `macp policies check`.

local log = require("host.log")
local sys = require("host.sys")

local console = require("macp.core.console")
local directory = require("macp.runtime.policies.directory")
local mode_registry = require("macp.modes.registry")
local policies = require("macp.runtime.policies")

local M = {}

-- Lines about one file, and whether it is fine.
local function report(entry)
  local lines = {}
  for _, text in ipairs(entry.problems) do lines[#lines + 1] = string.format("REJECTED  %s: %s", entry.file, text) end
  if entry.policy then
    lines[1] = string.format("OK        %s: %s for %s", entry.file, entry.policy.policy_id, entry.policy.mode)
  end
  for _, text in ipairs(entry.warnings) do lines[#lines + 1] = string.format("WARNING   %s: %s", entry.file, text) end
  return lines, #entry.problems == 0
end

---Judges files as the runtime would when it starts, and prints a line per file, problem and warning. (yields)
---@param paths string[] files and directories
---@param opts { mode_dirs: string[]|nil, strict: boolean|nil }
---@return integer|nil exit code: 0 when all are fine, 1 when one is not; table? err when the modes do not load
function M.check(paths, opts)
  log.set_level("error")
  local modes = mode_registry.new({ dirs = opts.mode_dirs or {}, depth = "validate" })
  local ok, err = modes:load_all()
  if not ok then
    modes:close()
    return nil, err
  end
  local registry = policies.new({ modes = modes, now_ms = sys.now_ms, strict = opts.strict })
  local all_fine = true
  for _, entry in ipairs(directory.read_paths(registry, paths)) do
    local lines, fine = report(entry)
    for _, line in ipairs(lines) do console.print(line) end
    all_fine = all_fine and fine
  end
  modes:close()
  return all_fine and 0 or 1
end

---The dry run that the settings ask for, or false when they ask for none. (yields)
---@param cfg table
---@param mode_dirs string[]|nil
---@return integer|false|nil exit code, table? err
function M.dry_run(cfg, mode_dirs)
  local runtime = cfg.runtime
  if not runtime.policies_dry_run then return false end
  if runtime.policies_dir == nil then
    console.warn("macp: MACP_POLICIES_DRY_RUN: set MACP_POLICIES_DIR as well")
    return 2
  end
  return M.check({ runtime.policies_dir }, { mode_dirs = mode_dirs, strict = runtime.strict_policies })
end

return M
