-- Development identities: whoever presents a credential is who the credential says. Never a default; a role turns
-- it on only when nothing else is configured and MACP_ALLOW_INSECURE=1.

local M = {}

---@class macp.auth.Identity
---@field sender string
---@field allowed_modes table<string, boolean>|nil nil: all modes
---@field can_start boolean
---@field max_open integer|nil nil: no limit
---@field can_manage boolean
---@field observer boolean

---A resolver of the chain: every non-empty credential is its own sender.
---@param observers string[]|nil senders that may read every session; nobody unless named
function M.new(observers)
  local observes = {}
  for _, sender in ipairs(observers or {}) do observes[sender] = true end
  return {
    name = "dev",
    ---@return macp.auth.Identity|nil identity, string? reason
    resolve = function(_, credential)
      if credential == "" then return nil, "the credential is empty" end
      return {
        sender = credential, allowed_modes = nil, can_start = true, max_open = nil, can_manage = true,
        observer = observes[credential] == true,
      }
    end,
  }
end

return M
