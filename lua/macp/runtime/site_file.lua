-- A Lua file of the site that a setting names: read and run at start, and again whenever it has changed. What it returns
-- is judged by who asked; while something is wrong with it, what it returned before stays.

local log = require("host.log")

local suggest = require("macp.core.suggest")
local tables = require("macp.core.tables")
local watched_file = require("macp.core.watched_file")

local MAX_FILE_BYTES = 1024 * 1024

---@class macp.runtime.SiteFile
---@field value any what the file returned last and was fit
local SiteFile = {}
SiteFile.__index = SiteFile

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

-- Runs a text and judges what it returns. (yields when the file does)
local function run(self, text)
  local chunk, problem = loadstring(text, "@" .. self.path)
  if chunk == nil then return nil, problem end
  local ok, value = pcall(chunk)
  if not ok then return nil, tostring(value) end
  problem = self.check(value)
  if problem then return nil, problem end
  return value
end

---Reads and runs a file. (yields)
---@param variable string the setting's, for problems
---@param path string
---@param check fun(value: any): string|nil what is wrong with what the file returns
---@return macp.runtime.SiteFile|nil file nothing follows it yet
---@return string? problem names the variable and the file
function M.open(variable, path, check)
  local self = setmetatable({ variable = variable, path = path, check = check,
    file = watched_file.new({ path = path, max_bytes = MAX_FILE_BYTES }) }, SiteFile)
  local text, err = self.file:read()
  local value, problem
  if text then value, problem = run(self, text) else problem = err.message end
  if problem then return nil, string.format("%s: %s: %s", variable, path, problem) end
  self.text, self.value = text, value
  return self
end

-- Takes a text in when it is another one and fit. (yields when the file does)
local function take(self, text, err)
  if text == self.text then return end
  local value, problem
  if text then value, problem = run(self, text) else problem = err.message end
  if problem then
    log.error("site_file.reload_failed", { variable = self.variable, file = self.path, message = problem })
    return
  end
  self.text, self.value = text, value
  log.info("site_file.reloaded", { variable = self.variable, file = self.path })
  if self.on_change then self.on_change(value) end
end

---Follows the file until close().
---@param on_change (fun(value: any))|nil called after `value` is the new one
function SiteFile:follow(on_change)
  self.on_change = on_change
  self.file:watch(function(text, err) take(self, text, err) end)
end

---Reads the file again, whether or not it looks changed; one that has the same text is not run again. (yields)
function SiteFile:reload() take(self, self.file:read()) end

---Ends the following. (yields)
function SiteFile:close() self.file:close() end

return M
