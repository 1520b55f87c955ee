-- A mode's own fold over canonical events (reducer.lua, `reduce`): live event by event, and again from what is stored.

local event_cursor = require("macp.plane.event_cursor")

local M = {}

---The event types that a revision folds, as a set; nil when there is none. Changes with the presentation.
---@return table<string, boolean>|nil
function M.types(rev)
  local view = rev.views and rev.views["reducer.lua"]
  local types = view and view.reduce
  return types and next(types) ~= nil and types or nil
end

---Hands an event to the mode when it folds this type.
---@param document string the event as JSON
function M.apply(rev, key, event_type, document)
  local types = M.types(rev)
  if types and types[event_type] then rev:reduce(key, document) end
end

---The stored events that a mode folds, in order.
---@param replica { rev: table, key: string, db: table, tenant: string, run_id: string }
---@param range { from: integer, to: integer }
---@return macp.plane.EventCursor
function M.stored(replica, range)
  local list = {}
  for name in pairs(M.types(replica.rev) or {}) do list[#list + 1] = name end
  table.sort(list)
  return event_cursor.new(replica, list, range, function(row) replica.rev:reduce(replica.key, row.document) end)
end

return M
