-- A policy as it arrives, from the wire or from a file: decoded, and judged as far as no other policy and no mode is
-- needed. Problems name the member.

local json = require("macp.core.json")
local suggest = require("macp.core.suggest")

local MAX_ID_BYTES = 255
local MAX_MODE_BYTES = 128
local MAX_DESCRIPTION_BYTES = 4096
local MAX_RULES_BYTES = 65536
local MAX_VERSION = 3
local MAX_DEPTH = 32 -- of rules; far more than any mode has, and what every later reader of them can hold
local SHOWN_BYTES = 64
local MEMBERS = { "policy_id", "mode", "description", "rules", "schema_version", "registered_at_unix_ms" }
local REQUIRED = { "policy_id", "mode", "rules", "schema_version" }
local TYPES = { policy_id = "string", mode = "string", description = "string", rules = "table",
  schema_version = "number" }
local TYPE_TEXT = { string = "a string", table = "an object", number = "a number" }

local M = {}

---@class macp.runtime.Policy
---@field policy_id string
---@field mode string a mode id or "*"
---@field description string
---@field rules table
---@field rules_json string the same rules as text, as it is recorded
---@field schema_version integer
---@field registered_at_ms integer 0 for those that are built in or come from files
---@field origin "built in"|"file"|"registered"
---@field meaning string|nil what it means, for comparison: see fingerprint in this folder
---@field refused table<string, string> mode id -> why its sessions may not bind the policy any more

local function shown(value)
  if value == json.null then return "null" end
  if type(value) == "string" then return json.quoted(value, SHOWN_BYTES) end
  if type(value) == "table" then return json.is_array(value) and "an array" or "an object" end
  return tostring(value)
end

local function check_members(given)
  local problems, known = {}, {}
  for _, member in ipairs(MEMBERS) do known[member] = true end
  local names = {}
  for name in pairs(given) do names[#names + 1] = tostring(name) end
  table.sort(names)
  for _, name in ipairs(names) do
    if not known[name] and not name:find("^[_$]") then
      problems[#problems + 1] = (name:find("^[%w_]+$") and #name < SHOWN_BYTES and name or shown(name))
        .. ": unknown member" .. suggest.hint(name, MEMBERS)
    end
  end
  for _, name in ipairs(REQUIRED) do
    if given[name] == nil then problems[#problems + 1] = name .. ": is required" end
  end
  for _, name in ipairs(MEMBERS) do
    local value, wanted = given[name], TYPES[name]
    if value ~= nil and wanted and (type(value) ~= wanted or json.is_array(value)) then
      problems[#problems + 1] = string.format("%s: expected %s, got %s", name, TYPE_TEXT[wanted], shown(value))
    end
  end
  return problems
end

local function check_values(given)
  local problems = {}
  local id, mode, version = given.policy_id, given.mode, given.schema_version
  if not id:find("%S") or #id > MAX_ID_BYTES or id:find("%c") or id:find("^%s") or id:find("%s$") then
    problems[#problems + 1] = string.format(
      "policy_id: expected 1 to %d bytes without control characters or white space around them, got %s",
      MAX_ID_BYTES, #id > MAX_ID_BYTES and #id .. " bytes" or shown(id))
  end
  if mode ~= "*" and (#mode > MAX_MODE_BYTES or not mode:find("^%w[%w_%.%-]*$")) then
    problems[#problems + 1] = "mode: expected a mode id such as macp.mode.decision.v1, or *, got "
      .. (#mode > MAX_MODE_BYTES and #mode .. " bytes" or shown(mode))
  end
  if version % 1 ~= 0 or version < 1 or version > MAX_VERSION then
    problems[#problems + 1] = string.format("schema_version: expected 1 to %d, got %.14g", MAX_VERSION, version)
  end
  if given.description and #given.description > MAX_DESCRIPTION_BYTES then
    problems[#problems + 1] = string.format("description: expected at most %d bytes, got %d", MAX_DESCRIPTION_BYTES,
      #given.description)
  end
  return problems
end

---The policy that a table describes, with the rules as a table.
---@param given table
---@return macp.runtime.Policy|nil policy, string[]|nil problems
function M.of_table(given)
  local problems = check_members(given)
  if #problems == 0 then problems = check_values(given) end
  if #problems > 0 then return nil, problems end
  local rules_json = json.encode(json.object(given.rules), { sorted = true })
  if #rules_json > MAX_RULES_BYTES then
    return nil, { string.format("rules: expected at most %d bytes, got %d", MAX_RULES_BYTES, #rules_json) }
  end
  return {
    policy_id = given.policy_id, mode = given.mode, description = given.description or "", rules = given.rules,
    rules_json = rules_json, schema_version = given.schema_version, registered_at_ms = 0, refused = {},
  }
end

---The policy that a PolicyDescriptor of the wire describes. Its rules are JSON text, empty for {}; text that is no
---JSON object is a problem and never the empty object.
---@param message table decoded macp.v1.PolicyDescriptor
---@return macp.runtime.Policy|nil policy, string[]|nil problems
function M.of_message(message)
  if #message.rules > MAX_RULES_BYTES then
    return nil, { string.format("rules: expected at most %d bytes, got %d", MAX_RULES_BYTES, #message.rules) }
  end
  local rules, problem = {}, nil
  if message.rules ~= "" then
    local err
    rules, err = json.decode(message.rules, { max_depth = MAX_DEPTH, unique = true })
    if rules == nil then
      problem = "rules: expected a JSON object: " .. err.message
    elseif type(rules) ~= "table" or json.is_array(rules) then
      problem = "rules: expected a JSON object, got " .. shown(rules)
    end
  end
  local policy, problems = M.of_table({
    policy_id = message.policy_id, mode = message.mode, description = message.description,
    rules = problem and {} or rules, schema_version = message.schema_version,
  })
  if problem == nil then return policy, problems end
  problems = problems or {}
  problems[#problems + 1] = problem
  return nil, problems
end

---Reads a policy out of JSON text, as files hold it.
---@return macp.runtime.Policy|nil policy, string[]|nil problems
---@return table|nil given the whole object, members of the file format included
function M.of_json(text)
  local given, err = json.decode(text, { max_depth = MAX_DEPTH + 1, unique = true })
  if given == nil then return nil, { err.message } end
  if type(given) ~= "table" or json.is_array(given) then
    return nil, { "expected one JSON object, got " .. shown(given) }
  end
  local policy, problems = M.of_table(given)
  return policy, problems, given
end

---The policy as a PolicyDescriptor.
function M.to_message(policy)
  return {
    policy_id = policy.policy_id, mode = policy.mode, description = policy.description, rules = policy.rules_json,
    schema_version = policy.schema_version, registered_at_unix_ms = policy.registered_at_ms,
  }
end

---What is legal but unusual about the descriptor itself.
---@return string[]
function M.warnings(policy)
  if policy.policy_id:find("^policy%.[^%.]+%.[^%.]") then return {} end
  return { "policy_id: ids are usually policy.<namespace>.<name>" }
end

return M
