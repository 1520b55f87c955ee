-- Tenants: whose rows are whose. A tenant needs no registration: it is there once a key names it.

local M = {
  FIRST = "default", -- of plain keys, of nobody's key, and of what all tenants share
  RULE = "1 to 63 of a-z, 0-9, - and _, the first one a letter or digit",
}

---What is wrong with the name of a tenant, or nil.
---@param name any
---@return string|nil
function M.problem(name)
  if type(name) == "string" and #name <= 63 and name:find("^[a-z0-9][a-z0-9_-]*$") then return nil end
  return "expected " .. M.RULE .. (type(name) == "string" and #name <= 100 and string.format(", got %q", name) or "")
end

return M
