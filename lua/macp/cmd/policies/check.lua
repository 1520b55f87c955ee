-- `macp policies check`: what a runtime would say about policy files. Exit codes: 0 all fine, 1 one is not, 3 usage.

local log = require("host.log")

local modes_option = require("macp.cmd.shared.modes_option")
local policy_files = require("macp.cmd.shared.policy_files")

local M = {
  summary = "Tell what is wrong with policy files.",
  help = [[
  macp policies check policies/                  every *.json directly inside, by name
  macp policies check a.json b.json              files; the same id twice is a problem
  macp policies check --modes ./modes policies/  rules of modes of your own are known
  macp policies check --strict policies/         as with MACP_STRICT_POLICIES=1

Prints a line per file that is fine, per problem and per warning; exit code 0 when every file is fine, 1 when not.
MACP_POLICIES_DRY_RUN=1 macp runtime does the same with MACP_POLICIES_DIR.]],
  options = {
    modes_option,
    { name = "strict", doc = "Refuse what policy builders emit needlessly." },
  },
  arguments = { { name = "PATH", repeated = true, required = true, doc = "Policy files and directories of them." } },
  config = false,
}

---(yields)
function M.run(opts)
  log.set_format("text")
  return policy_files.check(opts.args, { mode_dirs = opts.modes, strict = opts.strict })
end

return M
