-- Lists in query strings: items with commas between them.

local M = {}

---The items without the blanks around them, empty ones left out; nil when there is none.
---@param text string|nil
---@return string[]|nil
function M.of(text)
  local items = {}
  for item in (text or ""):gmatch("[^,]+") do
    item = item:match("^%s*(.-)%s*$")
    if item ~= "" then items[#items + 1] = item end
  end
  return #items > 0 and items or nil
end

return M
