-- `macp version`: what this binary is.

local journal = require("host.journal")
local json = require("host.json")
local sys = require("host.sys")

local console = require("macp.core.console")

local M = {
  summary = "Print the version of this program.",
  help = [[
  macp version
  macp version --json]],
  options = { { name = "json", doc = "Print JSON." } },
  config = false,
}

---Prints the version. Returns the exit code.
function M.run(opts)
  local facts = { version = sys.version, build = sys.build, lua = jit.version, platform = jit.os .. "/" .. jit.arch,
    stores = journal.backends() }
  if opts.json then
    console.print(json.encode(facts, { sorted = true, pretty = true }))
  else
    console.print(string.format("macp %s (%s, %s, %s)", facts.version, facts.build, facts.lua, facts.platform))
    console.print("stores: " .. table.concat(facts.stores, ", "))
  end
  return 0
end

return M
