-- The runtime's policies as clients of the plane see them: what is asked, what is refused before it is asked, and what
-- the runtime's answers mean.

local errors = require("macp.core.errors")
local json = require("macp.core.json")

local RESERVED = "policy.default"
local INVALID, TAKEN = "INVALID_POLICY_DEFINITION", "already registered"

local M = {}

local function is_object(value)
  return type(value) == "table" and not json.is_array(value) and #value == 0
end

local function section(rules, name)
  local value = rules[name]
  return is_object(value) and value or {}
end

local function is_list(value)
  return type(value) == "table" and json.is_array(value) and #value > 0
end

-- What a schema cannot say, in the order in which it is told: { message, fun(body): true when it is wrong }.
local RULES = {
  { "policyId: " .. RESERVED .. " is reserved", function(body) return body.policyId == RESERVED end },
  { "rules.voting.weights: the algorithm \"weighted\" needs an object of weights", function(body)
    local voting = section(body.rules, "voting")
    return voting.algorithm == "weighted" and not is_object(voting.weights)
  end },
  { "rules.voting.threshold: the algorithm \"supermajority\" needs a number above 0.5", function(body)
    local voting = section(body.rules, "voting")
    return voting.algorithm == "supermajority" and not (type(voting.threshold) == "number" and voting.threshold > 0.5)
  end },
  { "rules.commitment.designated_roles: the authority \"designated_role\" needs a list of roles that is not empty",
    function(body)
      local commitment = section(body.rules, "commitment")
      return commitment.authority == "designated_role"
        and not (is_list(commitment.designated_roles) or is_list(commitment.designatedRoles))
    end },
}

---Why a policy is refused before the runtime is asked.
---@param body { policyId: string, mode: string, description: string, rules: table, schemaVersion: integer }
---@return macp.Error|nil INVALID_POLICY_DEFINITION
function M.check(body)
  for _, rule in ipairs(RULES) do
    if rule[2](body) then return errors.new(INVALID, nil, rule[1]) end
  end
  return nil
end

---A policy of the runtime as JSON shows it; rules that are no JSON stay text.
---@param policy table macp.v1.PolicyDescriptor
function M.to_json(policy)
  local text = policy.rules
  if text == nil or text == "" then text = "{}" end
  local rules, err = json.decode(text)
  return {
    policyId = policy.policy_id, mode = policy.mode, description = policy.description,
    rules = err and text or rules, schemaVersion = policy.schema_version,
    registeredAtUnixMs = tonumber(policy.registered_at_unix_ms) or 0,
  }
end

-- The runtime's answer to a change: refusals that have a status of their own become errors.
local function answer(reply)
  local text = reply.error ~= "" and reply.error or nil
  if reply.ok then return { ok = true } end
  if text and text:find(INVALID, 1, true) then
    return nil, errors.new(INVALID, nil, (text:gsub("^" .. INVALID .. ":%s*", "")))
  end
  if text and text:find(TAKEN, 1, true) then return nil, errors.new("CONFLICT", nil, text) end
  return { ok = false, error = text }
end

---Registers a policy that was checked. (yields)
---@param client macp.plane.RuntimeClient
---@return { ok: boolean, error: string|nil }|nil
---@return macp.Error|nil err INVALID_POLICY_DEFINITION, CONFLICT, or what the call failed with
function M.register(client, body)
  local reply, err = client:call("RegisterPolicy", { policy_descriptor = {
    policy_id = body.policyId, mode = body.mode, description = body.description, rules = json.encode(body.rules),
    schema_version = body.schemaVersion,
  } })
  if reply == nil then return nil, err end
  return answer(reply)
end

---Takes a policy out of the runtime's registry. (yields)
---@return { ok: boolean, error: string|nil }|nil
---@return macp.Error|nil err
function M.unregister(client, policy_id)
  local reply, err = client:call("UnregisterPolicy", { policy_id = policy_id })
  if reply == nil then return nil, err end
  return answer(reply)
end

---One policy. (yields)
---@return table|nil policy as JSON shows it
---@return macp.Error|nil err NOT_FOUND when the runtime has none of this id
function M.get(client, policy_id)
  local reply, err = client:call("GetPolicy", { policy_id = policy_id })
  if reply == nil then return nil, err end
  return M.to_json(reply.policy_descriptor or {})
end

---Policies of a mode, with those that are for every mode; of all modes without one. (yields)
---@param mode string|nil
---@return table[]|nil policies as JSON shows them
---@return macp.Error|nil err
function M.list(client, mode)
  local reply, err = client:call("ListPolicies", { mode = mode or "" })
  if reply == nil then return nil, err end
  local list = json.array({})
  for i, policy in ipairs(reply.descriptors or {}) do list[i] = M.to_json(policy) end
  return list
end

return M
