-- `macp serve`: runs roles until a signal ends them.

local modes_option = require("macp.cmd.shared.modes_option")
local roles = require("macp.cmd.shared.roles")

local M = {
  summary = "Run the plane, the runtime, or both.",
  help = [[
  macp serve                                    both roles in this process
  macp serve --role plane                       only the HTTP interface; RUNTIME_ADDRESS names the runtime
  macp serve --role runtime                     only the gRPC interface
  PORT=8080 macp serve --role plane             settings come from the environment (see `macp config`)
  macp serve --modes ./modes                    add or override coordination modes; changes are served at once

The plane brings its database to the current schema when it starts (see `macp migrate`). TERM or INT finishes requests
and streams within 10 s; a second signal ends at once. HUP reads mode folders again.]],
  options = {
    { name = "role", short = "r", value = "ROLES", default = "plane,runtime", doc = "plane, runtime, or both." },
    modes_option,
  },
}

---(yields until the process is told to end)
function M.run(opts, cfg)
  local names, problem = roles.parse(opts.role)
  if names == nil then return nil, { code = "USAGE", message = problem } end
  return roles.serve(names, cfg, { mode_dirs = opts.modes })
end

return M
