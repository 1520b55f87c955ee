-- A mode's own fold over canonical events (reducer.lua, `reduce`): live event by event, and again from what is stored.

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

return M
