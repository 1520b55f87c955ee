-- `macp modes doc`: Markdown about a mode.

local load_folder = require("macp.cmd.shared.mode_folder")
local console = require("macp.core.console")
local docs = require("macp.modes.docs")

local M = {
  summary = "Print Markdown: authority, payloads, refusals, outcomes, policy.",
  help = [[
  macp modes doc modes/decision > decision.md]],
  arguments = { { name = "FOLDER", required = true, doc = "Mode folder." } },
  config = false,
}

---(yields)
function M.run(opts)
  local rev, err = load_folder(opts.args[1])
  if rev == nil then return nil, err end
  console.print((docs.render(rev):gsub("\n$", "")))
  rev:close()
  return 0
end

return M
