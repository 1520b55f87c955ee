-- `macp modes proto`: the .proto of a mode's payloads.

local load_folder = require("macp.cmd.shared.mode_folder")
local console = require("macp.core.console")
local proto_text = require("macp.modes.proto_text")

local M = {
  summary = "Print the .proto of the payloads, for agents in other languages.",
  help = [[
  macp modes proto modes/auction > auction.proto]],
  arguments = { { name = "FOLDER", required = true, doc = "Mode folder." } },
  config = false,
}

---(yields)
function M.run(opts)
  local rev, err = load_folder(opts.args[1])
  if rev == nil then return nil, err end
  console.print((proto_text.render(rev.model):gsub("\n$", "")))
  rev:close()
  return 0
end

return M
