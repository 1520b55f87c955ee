-- What an actor may do. A scope is `noun:verb`; `noun:*` grants every verb of a noun and `*` everything.

local M = {}

---@param actor { scopes: table<string, boolean>|nil } without scopes everything is allowed
---@param scope string|nil
---@return boolean
function M.allows(actor, scope)
  local granted = actor.scopes
  if granted == nil or scope == nil then return true end
  if granted[scope] or granted["*"] then return true end
  local noun = scope:match("^([^:]+):")
  return noun ~= nil and granted[noun .. ":*"] == true
end

return M
