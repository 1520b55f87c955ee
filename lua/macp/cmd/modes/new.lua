-- `macp modes new`: writes a folder to start from.

local fs = require("host.fs")

local console = require("macp.core.console")
local scaffold = require("macp.modes.scaffold")

local USAGE = 3

local M = {
  summary = "Make a new mode folder.",
  help = [[
  macp modes new lottery                 modes/lottery
  macp modes new lottery --in my-modes   my-modes/lottery

The folder holds a mode, its view and a fixture, and passes `macp modes check`.]],
  options = { { name = "in", value = "DIR", default = "modes", doc = "Directory that gets the folder." } },
  arguments = { { name = "NAME", required = true, doc = "Name of the mode, e.g. lottery." } },
  config = false,
}

---(yields)
function M.run(opts)
  local name = opts.args[1]
  local ok, problem = scaffold.check_name(name)
  if not ok then
    console.warn("macp modes new: " .. problem)
    return USAGE
  end
  local folder = opts["in"]:gsub("/+$", "") .. "/" .. name
  if fs.stat(folder) then return nil, { code = "EXISTS", message = folder .. " exists already" } end
  local files, paths = scaffold.files(name, folder), {}
  for path in pairs(files) do paths[#paths + 1] = path end
  table.sort(paths)
  for _, path in ipairs(paths) do
    local full = folder .. "/" .. path
    assert(fs.mkdir_p(full:match("^(.*)/")))
    local written, err = fs.write(full, files[path], { mode = 420 })
    if not written then return nil, err end
    console.print(full)
  end
  console.print("\nNext: macp modes check " .. folder)
  return 0
end

return M
