-- Policies a session can bind: the built-in ones and those of MACP_POLICIES_DIR. Entries never change.

local fs = require("host.fs")
local log = require("host.log")

local json = require("macp.core.json")

local DEFAULT_ID = "policy.default"
local ANY_MODE = "*"
local MAX_ID_BYTES = 255
local MAX_FILE_BYTES = 1024 * 1024
local SCHEMA_VERSIONS = { [1] = true, [2] = true, [3] = true }
local MEMBERS = { policy_id = "string", mode = "string", rules = "table", schema_version = "number" }
local MEMBER_ORDER = { "policy_id", "mode", "rules", "schema_version" }

local DECISION = "macp.mode.decision.v1"

-- The standard profiles of the protocol.
local function profile(name, description, voting)
  return {
    policy_id = "policy.std." .. name, mode = DECISION, description = description, schema_version = 1,
    rules = { voting = voting, commitment = { require_vote_quorum = true } },
  }
end

local BUILT_IN = {
  {
    policy_id = DEFAULT_ID, mode = ANY_MODE, schema_version = 1, rules = {},
    description = "The rules of the mode apply without further constraint.",
  },
  profile("majority", "More than half of the decisive votes, at least one voter.",
    { algorithm = "majority", threshold = 0.5, quorum = { type = "count", value = 1 } }),
  profile("supermajority", "Two thirds of the decisive votes, at least two voters.",
    { algorithm = "supermajority", threshold = 0.6666666666666666, quorum = { type = "count", value = 2 } }),
  profile("unanimous", "Every decisive vote approves, at least one voter.",
    { algorithm = "unanimous", quorum = { type = "count", value = 1 } }),
}

---@class macp.runtime.Policy
---@field policy_id string
---@field mode string a mode id or "*"
---@field description string
---@field rules table
---@field rules_json string the same rules as text, as it is recorded
---@field schema_version integer

local Registry = {}
Registry.__index = Registry

local M = { DEFAULT_ID = DEFAULT_ID }

local function add(registry, policy)
  registry.by_id[policy.policy_id] = {
    policy_id = policy.policy_id, mode = policy.mode, description = policy.description or "",
    rules = policy.rules, rules_json = json.encode(json.object(policy.rules), { sorted = true }),
    schema_version = policy.schema_version,
  }
end

function M.new()
  local registry = setmetatable({ by_id = {}, read_only = false }, Registry)
  for _, policy in ipairs(BUILT_IN) do add(registry, policy) end
  return registry
end

local function check_members(policy)
  local problems = {}
  for _, member in ipairs(MEMBER_ORDER) do
    if type(policy[member]) ~= MEMBERS[member] then
      problems[#problems + 1] = string.format("%s must be %s", member,
        MEMBERS[member] == "table" and "an object" or "a " .. MEMBERS[member])
    end
  end
  if json.is_array(policy.rules) then problems[#problems + 1] = "rules must be an object" end
  if policy.description ~= nil and type(policy.description) ~= "string" then
    problems[#problems + 1] = "description must be a string"
  end
  return problems
end

local function check_identity(registry, policy)
  local problems, id = {}, policy.policy_id
  if not id:find("%S") or #id > MAX_ID_BYTES or id:find("%c") or id:find("^%s") or id:find("%s$") then
    problems[#problems + 1] = "policy_id must be 1 to 255 bytes without control characters or white space around it"
  elseif registry.by_id[id] then
    problems[#problems + 1] = string.format("policy_id %q is already registered", id)
  elseif id:find("^policy%.std%.") then
    problems[#problems + 1] = "policy.std.* is reserved"
  end
  if not SCHEMA_VERSIONS[policy.schema_version] then
    problems[#problems + 1] = "schema_version must be 1, 2 or 3"
  end
  if not policy.mode:find("%S") then problems[#problems + 1] = "mode is blank" end
  return problems
end

---Adds a policy after checking it.
---@param policy table decoded descriptor with rules as an object
---@param modes table mode registry
---@return true|nil, string[]? problems
function Registry:register(policy, modes)
  local problems = check_members(policy)
  if #problems > 0 then return nil, problems end
  problems = check_identity(self, policy)
  if #problems > 0 then return nil, problems end
  local ok, reasons = modes:check_policy(policy.mode, policy.rules, policy.schema_version)
  if not ok then return nil, reasons end
  for _, warning in ipairs(reasons or {}) do
    log.warn("policy.warning", { policy_id = policy.policy_id, warning = warning })
  end
  add(self, policy)
  return true
end

local function read_policy(path)
  local text, err = fs.read(path, MAX_FILE_BYTES)
  if text == nil then return nil, err.message end
  local policy, reason = json.decode(text)
  if policy == nil then return nil, reason.message end
  if type(policy) ~= "table" or json.is_array(policy) then return nil, "the file must hold one JSON object" end
  return policy
end

---Loads every *.json of a directory, sorted by name. Any bad file is a problem; all are reported. (yields)
---@return integer|nil count, string[]? problems
function Registry:load_dir(dir, modes)
  local entries, err = fs.list(dir)
  if entries == nil then return nil, { string.format("MACP_POLICIES_DIR %s: %s", dir, err.message) } end
  local problems, count = {}, 0
  for _, entry in ipairs(entries) do
    if entry.name:find("%.json$") and entry.type ~= "dir" then
      local policy, reason = read_policy(dir .. "/" .. entry.name)
      local reasons = { reason }
      if policy then
        local ok, found = self:register(policy, modes)
        reasons = ok and {} or found
        if ok then count = count + 1 end
      end
      for _, text in ipairs(reasons) do
        problems[#problems + 1] = string.format("MACP_POLICIES_DIR %s: %s", entry.name, text)
      end
    end
  end
  self.read_only = true
  if #problems > 0 then return nil, problems end
  return count
end

---The policy a SessionStart asks for; the empty id means the default one.
---@return macp.runtime.Policy|nil, string? code, string? reason
function Registry:resolve(policy_id, mode)
  if policy_id == "" then policy_id = DEFAULT_ID end
  local policy = self.by_id[policy_id]
  if policy == nil then
    return nil, "UNKNOWN_POLICY_VERSION", string.format("policy %q is not registered", policy_id)
  end
  if policy.mode ~= ANY_MODE and policy.mode ~= mode then
    return nil, "INVALID_POLICY_DEFINITION", string.format("policy %q is for %s", policy_id, policy.mode)
  end
  return policy
end

---The shared entry that equals a recorded binding, or the binding itself: sessions of one policy share its memory.
function Registry:intern(policy)
  local known = self.by_id[policy.policy_id]
  if known and known.rules_json == policy.rules_json and known.schema_version == policy.schema_version then
    return known
  end
  return policy
end

return M
