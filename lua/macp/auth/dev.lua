-- Development identities: whoever presents a credential is who the credential says. Never a default; a role turns
-- it on only when nothing else is configured and MACP_ALLOW_INSECURE=1.

local capabilities = require("macp.auth.capabilities")

local DevResolver = { name = "dev" }
DevResolver.__index = DevResolver

local M = {}

---@return macp.auth.Identity|nil identity, string? reason
function DevResolver:resolve(credential)
  local problem = capabilities.sender_problem(credential)
  if problem then return nil, "a development credential " .. problem end
  local identity = capabilities.identity(credential, { can_manage_mode_registry = true })
  identity.observer = self.observes[credential] == true
  return identity
end

---A resolver of the chain: every non-empty credential is its own sender.
---@param observers string[]|nil senders that may read every session; nobody unless named
function M.new(observers)
  local observes = {}
  for _, sender in ipairs(observers or {}) do observes[sender] = true end
  return setmetatable({ observes = observes }, DevResolver)
end

return M
