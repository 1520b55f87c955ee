-- Registered policies in a journal: the same interface as store.lua, for stores that several machines reach. One log of
-- one record per id that was ever registered, so that a change costs one record however many there are.

local crypto = require("host.crypto")

local stored = require("macp.runtime.policies.stored")

local PREFIX = "policy:"

local Store = {}
Store.__index = Store

local M = {}

---@param journal table host.journal; it stays the caller's
---@param where string what the journal is, for people
function M.new(journal, where) return setmetatable({ journal = journal, where = where }, Store) end

local function write(self, policy_id, text)
  return self.journal:replace(PREFIX .. crypto.sha256_hex(policy_id), { text })
end

---As that of store.lua. (yields)
function Store:put(policy) return write(self, policy.policy_id, stored.of_policy(policy)) end

---As that of store.lua. (yields)
function Store:bury(tombstone) return write(self, tombstone.policy_id, stored.of_tombstone(tombstone)) end

---As that of store.lua. (yields)
function Store:forget(policy_id) return self.journal:delete(PREFIX .. crypto.sha256_hex(policy_id)) end

---As that of store.lua; a problem names the key. A server that does not answer is an error, not a problem. (yields)
function Store:load()
  local found, keys = stored.nothing(), {}
  for _, key in ipairs(self.journal:keys()) do
    if key:sub(1, #PREFIX) == PREFIX then keys[#keys + 1] = key end
  end
  table.sort(keys)
  for _, key in ipairs(keys) do
    local records, err = self.journal:read(key, 1, 1)
    if records == nil and err.code ~= "CORRUPT" then return nil, err end
    stored.add(found, records and records[1], key, err or { message = "the record is missing" })
  end
  for key, reason in pairs(self.journal:damaged()) do
    if key:sub(1, #PREFIX) == PREFIX then stored.add(found, nil, key, { message = reason }) end
  end
  return found
end

return M
