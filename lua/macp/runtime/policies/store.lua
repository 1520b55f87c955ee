-- Registered policies on disk: one file per id that was ever registered, named by the id's hash. An id that was
-- unregistered leaves a tombstone, so that it cannot come back with another meaning. A file is written in one step and
-- synced before anybody learns of the change, and a change costs one file however many there are.

local crypto = require("host.crypto")
local fs = require("host.fs")

local stored = require("macp.runtime.policies.stored")

local MAX_FILE_BYTES = 1024 * 1024

local Store = {}
Store.__index = Store

local M = {}

---@param dir string created with the first policy
function M.new(dir) return setmetatable({ where = dir }, Store) end

local function path_of(self, policy_id) return self.where .. "/" .. crypto.sha256_hex(policy_id) .. ".json" end

local function write(self, policy_id, text)
  local ok, err = fs.mkdir_p(self.where)
  if not ok then return nil, err end
  return fs.write(path_of(self, policy_id), text .. "\n", { sync = true })
end

---Stores a policy durably. (yields)
---@param policy macp.runtime.Policy
---@return true|nil, table? err
function Store:put(policy) return write(self, policy.policy_id, stored.of_policy(policy)) end

---Puts a tombstone in a policy's place, durably. (yields)
---@param tombstone { policy_id: string, fingerprint: string, unregistered_at_ms: integer }
---@return true|nil, table? err
function Store:bury(tombstone) return write(self, tombstone.policy_id, stored.of_tombstone(tombstone)) end

---Forgets an id for good. (yields)
---@return true|nil, table? err
function Store:forget(policy_id) return fs.remove(path_of(self, policy_id)) end

---Everything stored, by name of the file. (yields)
---@return { policies: table[], tombstones: table[], problems: { file: string, text: string }[] }|nil, table? err
function Store:load()
  local found = stored.nothing()
  if fs.stat(self.where) == nil then return found end
  local entries, err = fs.list(self.where)
  if entries == nil then return nil, err end
  for _, entry in ipairs(entries) do
    local path = self.where .. "/" .. entry.name
    if entry.name:find("^%x+%.json$") then
      local text, why = fs.read(path, MAX_FILE_BYTES)
      stored.add(found, text, entry.name, why)
    elseif entry.name:find("^%x+%.json%.") then
      fs.remove(path) -- a write that a crash cut short
    end
  end
  return found
end

-- What stays in memory needs no place.
local Memory = {
  where = "memory",
  put = function() return true end,
  bury = function() return true end,
  forget = function() return true end,
  load = stored.nothing,
}

---A store that forgets everything with the process.
function M.memory() return Memory end

return M
