-- Which outcome an action's name promises. Used inside isolates and outside of them.

local NEGATIVE = { "rejected", "failed", "declined" }
local POSITIVE = { "selected", "accepted", "completed", "approved" }

local M = {}

local function ends_with_one(text, suffixes)
  for _, suffix in ipairs(suffixes) do
    if text:sub(-#suffix) == suffix then return true end
  end
  return false
end

---The polarity that an action's suffix demands: true, false, or nil for any.
---@param action string
---@return boolean|nil
function M.of(action)
  if ends_with_one(action, NEGATIVE) then return false end
  return ends_with_one(action, POSITIVE) or nil
end

return M
