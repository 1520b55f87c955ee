-- The RPCs that change which modes there are, and the roots. What the registry refuses is an answer (ok = false), not a
-- status; who may not ask at all gets a status.

local rpc = require("host.rpc")

local codes = require("macp.protocol.codes")
local wire = require("macp.runtime.wire")

local STATUS = rpc.status

local M = {}

local function request_of(call, name) return wire.request(call, "macp.v1." .. name .. "Request") end

local function reply(call, name, value) wire.reply(call, "macp.v1." .. name .. "Response", value) end

-- The decoded request of a caller that may manage the registry; otherwise the call is answered.
local function admitted(service, call, name)
  local identity, reason, code = service.identities:identify(call)
  if identity == nil then
    call:fail(code == "RATE_LIMITED" and STATUS.RESOURCE_EXHAUSTED or STATUS.UNAUTHENTICATED, codes.text(code, reason))
    return nil
  end
  if not identity.can_manage then
    call:fail(STATUS.PERMISSION_DENIED, codes.text("FORBIDDEN", "the identity may not manage the mode registry"))
    return nil
  end
  return request_of(call, name)
end

---RegisterExtMode: a mode that is nothing but its descriptor. (yields)
function M.register(service, call)
  local request = admitted(service, call, "RegisterExtMode")
  if request == nil then return end
  local descriptor = request.mode_descriptor
  if descriptor == nil then return call:fail(STATUS.INVALID_ARGUMENT, "mode_descriptor is absent") end
  local ok, reason = service.modes.registered:register(descriptor)
  reply(call, "RegisterExtMode", { ok = ok == true, error = reason })
end

---UnregisterExtMode: no new sessions of a registered mode. (yields)
function M.unregister(service, call)
  local request = admitted(service, call, "UnregisterExtMode")
  if request == nil then return end
  local ok, reason = service.modes.registered:unregister(request.mode)
  reply(call, "UnregisterExtMode", { ok = ok == true, error = reason })
end

---PromoteMode: onto the standards track. (yields)
function M.promote(service, call)
  local request = admitted(service, call, "PromoteMode")
  if request == nil then return end
  local ok, detail = service.modes.registered:promote(request.mode, request.promoted_mode_name)
  if ok then return reply(call, "PromoteMode", { ok = true, mode = detail }) end
  reply(call, "PromoteMode", { ok = false, error = detail })
end

---ListRoots: none, the runtime has no provider of roots.
function M.list_roots(_, call)
  if request_of(call, "ListRoots") then reply(call, "ListRoots", { roots = {} }) end
end

return M
