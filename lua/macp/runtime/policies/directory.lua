-- MACP_POLICIES_DIR: policies from files, one JSON object each, sorted by name. At start any bad file is fatal; later a
-- bad change is told and the last good set stays. The same reading serves the dry run and `macp policies check`.

local fs = require("host.fs")
local log = require("host.log")

local descriptor = require("macp.runtime.policies.descriptor")
local dir_watcher = require("macp.core.dir_watcher")

local VARIABLE = "MACP_POLICIES_DIR"
local MAX_FILE_BYTES = 1024 * 1024
local MAX_FILES = 1000

local Directory = {}
Directory.__index = Directory

local M = { VARIABLE = VARIABLE }

---@class macp.runtime.PolicyFile what became of one file
---@field file string its name, or its path when it was named alone
---@field policy macp.runtime.Policy|nil
---@field problems string[] why it is refused; empty when it is fine
---@field warnings string[]

-- Reads one file and judges it. (yields)
local function read_file(registry, path, name)
  local entry = { file = name, problems = {}, warnings = {} }
  local text, err = fs.read(path, MAX_FILE_BYTES)
  if text == nil then
    entry.problems[1] = err.message
    return entry
  end
  local policy, problems = descriptor.of_json(text)
  if policy == nil then
    entry.problems = problems
    return entry
  end
  local ok, texts = registry:judge_file(policy)
  if ok then
    entry.policy, entry.warnings = policy, texts
  else
    entry.problems = texts
  end
  return entry
end

-- An id has one file.
local function check_unique(entries)
  local file_of = {}
  for _, entry in ipairs(entries) do
    local policy = entry.policy
    if policy then
      local other = file_of[policy.policy_id]
      if other then
        entry.policy = nil
        entry.problems[#entry.problems + 1] = string.format("policy_id %q is already registered by %s",
          policy.policy_id, other)
      end
      file_of[policy.policy_id] = other or entry.file
    end
  end
end

---Reads and judges every *.json directly inside a directory, by name. (yields)
---@param registry table the policies it is judged against
---@param dir string
---@return macp.runtime.PolicyFile[]|nil entries, string|nil problem with the directory itself
function M.read(registry, dir)
  local listed, err = fs.list(dir)
  if listed == nil then return nil, err.message end
  local entries = {}
  for _, found in ipairs(listed) do
    if found.name:find("%.json$") and found.type ~= "dir" then
      if #entries == MAX_FILES then return nil, string.format("more than %d files", MAX_FILES) end
      entries[#entries + 1] = read_file(registry, dir .. "/" .. found.name, found.name)
    end
  end
  check_unique(entries)
  return entries
end

---Reads and judges files and directories named by somebody. (yields)
---@param registry table
---@param paths string[]
---@return macp.runtime.PolicyFile[] entries with the path as file
function M.read_paths(registry, paths)
  local entries = {}
  for _, path in ipairs(paths) do
    local info = fs.stat(path)
    if info and info.type == "dir" then
      local found, problem = M.read(registry, path)
      if found == nil then
        entries[#entries + 1] = { file = path, problems = { problem }, warnings = {} }
      elseif #found == 0 then
        entries[#entries + 1] = { file = path, problems = {}, warnings = { "no *.json file inside" } }
      end
      for _, entry in ipairs(found or {}) do
        entry.file = path .. "/" .. entry.file
        entries[#entries + 1] = entry
      end
    else
      entries[#entries + 1] = read_file(registry, path, path)
    end
  end
  check_unique(entries)
  return entries
end

-- All of the directory, fit to be served, or every problem with its file. (yields)
local function read_set(registry, dir)
  local entries, problem = M.read(registry, dir)
  if entries == nil then return nil, { string.format("%s %s: %s", VARIABLE, dir, problem) } end
  local policies, problems = {}, {}
  for _, entry in ipairs(entries) do
    policies[#policies + 1] = entry.policy
    for _, text in ipairs(entry.problems) do
      problems[#problems + 1] = string.format("%s %s/%s: %s", VARIABLE, dir, entry.file, text)
    end
  end
  if #problems > 0 then return nil, problems end
  local fits, reason = registry:has_room_for(policies)
  if not fits then return nil, { string.format("%s %s: %s", VARIABLE, dir, reason) } end
  return policies, entries
end

local function warn(dir, entries)
  for _, entry in ipairs(entries) do
    for _, text in ipairs(entry.warnings) do
      log.warn("policy.warning", { file = dir .. "/" .. entry.file, warning = text })
    end
  end
  if #entries == 0 then log.warn("policies.none", { dir = dir, variable = VARIABLE }) end
end

---Loads a directory into the registry, which is read-only over the wire from then on. (yields)
---@param registry table
---@param dir string
---@return table|nil directory, string[]|nil problems: variable, file and reason
function M.load(registry, dir)
  local policies, entries = read_set(registry, dir)
  if policies == nil then return nil, entries end
  registry:replace_files(policies)
  warn(dir, entries)
  return setmetatable({ registry = registry, dir = dir, told = "", reading = false,
    wanted = false }, Directory)
end

local function reload_once(self)
  local policies, entries = read_set(self.registry, self.dir)
  if policies == nil then
    local told = table.concat(entries, "\n")
    if told ~= self.told then
      for _, problem in ipairs(entries) do log.error("policies.rejected", { message = problem }) end
    end
    self.told = told
    return
  end
  self.told = ""
  if self.registry:replace_files(policies) then
    log.info("policies.reloaded", { dir = self.dir, count = #policies })
    warn(self.dir, entries)
  end
end

---Reads the directory again. With any problem the last good set stays, and the problems are told once. A call during
---another one makes that one read again, so that nothing older wins. (yields)
function Directory:reload()
  self.wanted = true
  if self.reading then return end
  self.reading = true
  while self.wanted do
    self.wanted = false
    reload_once(self)
  end
  self.reading = false
end

---Follows the directory until close().
function Directory:watch()
  self.watcher = dir_watcher.start({ self.dir }, "policies", function() self:reload() end)
end

---Ends following.
function Directory:close()
  if self.watcher then self.watcher:stop() end
  self.watcher = nil
end

return M
