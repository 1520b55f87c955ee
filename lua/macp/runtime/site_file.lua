-- A Lua file of the site that a setting names: read and run once, at start. What it returns is judged by who asked.

local fs = require("host.fs")

local MAX_FILE_BYTES = 1024 * 1024

local M = {}

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
