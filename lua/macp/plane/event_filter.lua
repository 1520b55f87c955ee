-- Which events a reader wants, by type.

local text_lists = require("macp.plane.text_lists")

---@class macp.plane.EventFilter
---@field key string the same for equal filters
---@field list string[]
---@field types table<string, boolean>

local M = {}

---@param text string|nil types, comma separated
---@return macp.plane.EventFilter|nil nil: all events are wanted
function M.of(text)
  local list = text_lists.of(text)
  if list == nil then return nil end
  table.sort(list)
  local types = {}
  for _, name in ipairs(list) do types[name] = true end
  return { key = table.concat(list, ","), list = list, types = types }
end

return M
