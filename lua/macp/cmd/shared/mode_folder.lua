-- A folder named on the command line as a revision; its problems are printed. (yields)

local console = require("macp.core.console")
local report = require("macp.modes.report")
local revision = require("macp.modes.revision")
local source = require("macp.modes.source")

return function(path)
  local files, err = source.read(path)
  if files == nil then return nil, err end
  local rev, problems = revision.build(files, { root = path:gsub("/+$", "") .. "/" })
  for _, problem in ipairs(problems) do console.warn(report.line(problem)) end
  if rev == nil then return nil, { code = "INVALID", message = path .. " is not a valid mode" } end
  return rev, nil, files
end
