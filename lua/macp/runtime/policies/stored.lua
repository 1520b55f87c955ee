-- The text in which a registered policy, or the tombstone of one, is kept.

local descriptor = require("macp.runtime.policies.descriptor")
local json = require("macp.core.json")

local M = {}

---@param policy macp.runtime.Policy
---@return string text
function M.of_policy(policy)
  return json.encode({
    policy_id = policy.policy_id, mode = policy.mode, description = policy.description,
    rules = json.object(policy.rules), schema_version = policy.schema_version,
    registered_at_unix_ms = policy.registered_at_ms,
  }, { sorted = true })
end

---@param tombstone { policy_id: string, fingerprint: string, unregistered_at_ms: integer }
---@return string text
function M.of_tombstone(tombstone)
  return json.encode({
    policy_id = tombstone.policy_id, fingerprint = tombstone.fingerprint,
    unregistered_at_unix_ms = tombstone.unregistered_at_ms,
  }, { sorted = true })
end

---Nothing read yet: what load() of a store gives back.
function M.nothing() return { policies = {}, tombstones = {}, problems = {} } end

---Adds what a text says to `found`; a text that says nothing is a problem of `file`.
---@param found { policies: table[], tombstones: table[], problems: { file: string, text: string }[] }
---@param text string|nil nil: it could not be read
---@param file string where it was
---@param err table|nil why not
function M.add(found, text, file, err)
  local function problem(why) found.problems[#found.problems + 1] = { file = file, text = why } end
  if text == nil then return problem(err.message) end
  local given = json.decode(text)
  if type(given) == "table" and type(given.fingerprint) == "string" and type(given.policy_id) == "string" then
    found.tombstones[#found.tombstones + 1] = { policy_id = given.policy_id, fingerprint = given.fingerprint,
      unregistered_at_ms = tonumber(given.unregistered_at_unix_ms) or 0 }
    return
  end
  local policy, problems = descriptor.of_json(text)
  if policy == nil then return problem(table.concat(problems, "; ")) end
  policy.registered_at_ms = tonumber(given.registered_at_unix_ms) or 0
  found.policies[#found.policies + 1] = policy
end

return M
