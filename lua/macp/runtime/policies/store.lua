-- Registered policies on disk: one file per id that was ever registered, named by the id's hash. An id that was
-- unregistered leaves a tombstone, so that it cannot come back with another meaning. A file is written in one step and
-- synced before anybody learns of the change, and a change costs one file however many there are.

local crypto = require("host.crypto")
local fs = require("host.fs")

local descriptor = require("macp.runtime.policies.descriptor")
local json = require("macp.core.json")

local MAX_FILE_BYTES = 1024 * 1024

local Store = {}
Store.__index = Store

local M = {}

---@param dir string created with the first policy
function M.new(dir) return setmetatable({ dir = dir }, Store) end

local function path_of(self, policy_id) return self.dir .. "/" .. crypto.sha256_hex(policy_id) .. ".json" end

local function write(self, policy_id, content)
  local ok, err = fs.mkdir_p(self.dir)
  if not ok then return nil, err end
  return fs.write(path_of(self, policy_id), json.encode(content, { sorted = true }) .. "\n", { sync = true })
end

---Stores a policy durably. (yields)
---@param policy macp.runtime.Policy
---@return true|nil, table? err
function Store:put(policy)
  return write(self, policy.policy_id, {
    policy_id = policy.policy_id, mode = policy.mode, description = policy.description,
    rules = json.object(policy.rules), schema_version = policy.schema_version,
    registered_at_unix_ms = policy.registered_at_ms,
  })
end

---Puts a tombstone in a policy's place, durably. (yields)
---@param tombstone { policy_id: string, fingerprint: string, unregistered_at_ms: integer }
---@return true|nil, table? err
function Store:bury(tombstone)
  return write(self, tombstone.policy_id, {
    policy_id = tombstone.policy_id, fingerprint = tombstone.fingerprint,
    unregistered_at_unix_ms = tombstone.unregistered_at_ms,
  })
end

---Forgets an id for good. (yields)
---@return true|nil, table? err
function Store:forget(policy_id) return fs.remove(path_of(self, policy_id)) end

local function read_file(path)
  local text, err = fs.read(path, MAX_FILE_BYTES)
  if text == nil then return nil, err.message end
  local given = json.decode(text)
  if type(given) == "table" and type(given.fingerprint) == "string" and type(given.policy_id) == "string" then
    return nil, nil, { policy_id = given.policy_id, fingerprint = given.fingerprint,
      unregistered_at_ms = tonumber(given.unregistered_at_unix_ms) or 0 }
  end
  local policy, problems = descriptor.of_json(text)
  if policy == nil then return nil, table.concat(problems, "; ") end
  policy.registered_at_ms = tonumber(given.registered_at_unix_ms) or 0
  return policy
end

---Everything stored, by name of the file. (yields)
---@return { policies: table[], tombstones: table[], problems: { file: string, text: string }[] }|nil, table? err
function Store:load()
  local found = { policies = {}, tombstones = {}, problems = {} }
  if fs.stat(self.dir) == nil then return found end
  local entries, err = fs.list(self.dir)
  if entries == nil then return nil, err end
  for _, entry in ipairs(entries) do
    if entry.name:find("^%x+%.json$") then
      local policy, text, tombstone = read_file(self.dir .. "/" .. entry.name)
      if policy then
        table.insert(found.policies, policy)
      elseif tombstone then
        table.insert(found.tombstones, tombstone)
      else
        table.insert(found.problems, { file = entry.name, text = text })
      end
    elseif entry.name:find("^%x+%.json%.") then
      fs.remove(self.dir .. "/" .. entry.name) -- a write that a crash cut short
    end
  end
  return found
end

-- What stays in memory needs no place.
local Memory = {
  put = function() return true end,
  bury = function() return true end,
  forget = function() return true end,
  load = function() return { policies = {}, tombstones = {}, problems = {} } end,
}

---A store that forgets everything with the process.
function M.memory() return Memory end

return M
