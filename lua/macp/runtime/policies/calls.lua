-- The RPCs about policies. Who may register is who may manage the mode registry; what is wrong with a policy is told
-- in band, everything else is a status.

local rpc = require("host.rpc")

local descriptor = require("macp.runtime.policies.descriptor")
local json = require("macp.core.json")
local wire = require("macp.runtime.wire")

local STATUS = rpc.status
local SHOWN_BYTES = 255

local M = {}

local function reply(call, name, value) wire.reply(call, "macp.v1." .. name, value) end

-- The request of a caller who may change the registry, or nil after the call has been answered.
local function change_request(service, call, identity, name)
  if service.policies.read_only then
    call:fail(STATUS.FAILED_PRECONDITION,
      "the policies come from files (MACP_POLICIES_DIR): the registry is read-only")
    return nil
  end
  if not identity.can_manage then
    call:fail(STATUS.PERMISSION_DENIED, "FORBIDDEN: the identity may not manage the registries")
    return nil
  end
  return wire.request(call, "macp.v1." .. name)
end

local function answer(call, name, ok, text, err)
  if err and err.code == "CANCELLED" then return end
  if err then return call:fail(STATUS.INTERNAL, "StorageFailed: " .. text) end
  reply(call, name, { ok = ok or false, error = text or "" })
end

---RegisterPolicy. (yields until the policy is on disk)
function M.register(service, call, identity)
  local request = change_request(service, call, identity, "RegisterPolicyRequest")
  if request == nil then return end
  if request.policy_descriptor == nil then
    return call:fail(STATUS.INVALID_ARGUMENT, "policy_descriptor is absent")
  end
  local policy, problems = descriptor.of_message(request.policy_descriptor)
  if policy == nil then
    return reply(call, "RegisterPolicyResponse", {
      ok = false, error = "INVALID_POLICY_DEFINITION: " .. table.concat(problems, "; "),
    })
  end
  answer(call, "RegisterPolicyResponse", service.policies:register(policy))
end

---UnregisterPolicy. (yields until the change is on disk)
function M.unregister(service, call, identity)
  local request = change_request(service, call, identity, "UnregisterPolicyRequest")
  if request == nil then return end
  answer(call, "UnregisterPolicyResponse", service.policies:unregister(request.policy_id))
end

---GetPolicy.
function M.get(service, call)
  local request = wire.request(call, "macp.v1.GetPolicyRequest")
  if request == nil then return end
  local policy = service.policies:get(request.policy_id)
  if policy == nil then
    return call:fail(STATUS.NOT_FOUND, "policy " .. json.quoted(request.policy_id, SHOWN_BYTES) .. " is not registered")
  end
  reply(call, "GetPolicyResponse", { policy_descriptor = descriptor.to_message(policy) })
end

---ListPolicies.
function M.list(service, call)
  local request = wire.request(call, "macp.v1.ListPoliciesRequest")
  if request == nil then return end
  local descriptors = json.array({})
  for i, policy in ipairs(service.policies:list(request.mode)) do descriptors[i] = descriptor.to_message(policy) end
  reply(call, "ListPoliciesResponse", { descriptors = descriptors })
end

return M
