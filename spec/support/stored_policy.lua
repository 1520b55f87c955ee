-- A policy as stores of policies take it.

local descriptor = require("macp.runtime.policies.descriptor")

---@param id string
---@param rules table|nil
return function(id, rules)
  local made = assert(descriptor.of_table({ policy_id = id, mode = "*", rules = rules or {}, schema_version = 3 }))
  made.registered_at_ms = 1790000000000
  return made
end
