-- Plays JSON fixtures of a directory against the modes of this program.

local fs = require("host.fs")
local json = require("host.json")

local fixtures = require("macp.modes.fixtures")
local prove = require("macp.modes.prove")
local registry = require("macp.modes.registry")

local M = {}

---Files of a directory that are fixtures: { name, text, mode }. (yields)
function M.list(dir)
  local out = {}
  for _, entry in ipairs(assert(fs.list(dir))) do
    if entry.name:find("%.json$") and entry.name ~= "schema.json" then
      local text = assert(fs.read(dir .. "/" .. entry.name))
      out[#out + 1] = { name = entry.name, text = text, mode = assert(json.decode(text)).mode }
    end
  end
  return out
end

---A registry of the shipped modes. (yields)
function M.modes()
  local modes = registry.new({ depth = "off" })
  assert(modes:load_all())
  return modes
end

---Plays one fixture; nil when it holds, else what is wrong.
function M.play(rev, file)
  local fixture, problem = fixtures.load(rev, file.name, file.text, file.name)
  if fixture == nil then return problem.text end
  local result = prove.play(rev, fixture, prove.new_cover(rev))
  return result.problem and result.problem.text or nil
end

return M
