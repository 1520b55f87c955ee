-- A Lua file of the site that a setting names: read and run once, at start. What it returns is judged by who asked.

local fs = require("host.fs")

local suggest = require("macp.core.suggest")
local tables = require("macp.core.tables")

local MAX_FILE_BYTES = 1024 * 1024

local M = {}

---What is wrong with a table's members: one that is not known, or one of another type.
---@param value any
---@param types table<string, string> the type that each member has when it is there
---@param wanted string what the table is, for the problem
---@return string|nil problem
function M.members_problem(value, types, wanted)
  if type(value) ~= "table" then return string.format("expected %s, got %s", wanted, type(value)) end
  for name, member in pairs(value) do
    local expected = types[name]
    if expected == nil then
      return "unknown member " .. tostring(name) .. suggest.hint(tostring(name), tables.sorted_keys(types))
    end
    if type(member) ~= expected then return string.format("%s: expected a %s, got %s", name, expected, type(member)) end
  end
  return nil
end

---Reads and runs a file. (yields)
---@param variable string the setting's, for problems
---@param path string
---@param check fun(value: any): string|nil what is wrong with what the file returns
---@return any value nil when something is wrong
---@return string? problem names the variable and the file
function M.load(variable, path, check)
  local function refuse(text) return nil, string.format("%s: %s: %s", variable, path, text) end
  local text, err = fs.read(path, MAX_FILE_BYTES)
  if text == nil then return refuse(err.message) end
  local chunk, problem = loadstring(text, "@" .. path)
  if chunk == nil then return refuse(problem) end
  local ok, value = pcall(chunk)
  if not ok then return refuse(tostring(value)) end
  problem = check(value)
  if problem then return refuse(problem) end
  return value
end

return M
