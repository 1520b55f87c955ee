-- A mode's own fold over canonical events (reducer.lua, `reduce`): live event by event, and again from what is stored.

local events_store = require("macp.store.events")

local PAGE = 500

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

---@class macp.plane.ModeFold stored events of the folded types, in order
local Stored = {}
Stored.__index = Stored

---@param replica { rev: table, key: string, db: table, tenant: string, run_id: string }
---@param from integer events after this number
---@param to integer
function M.stored(replica, from, to)
  local list = {}
  for name in pairs(M.types(replica.rev) or {}) do list[#list + 1] = name end
  table.sort(list)
  return setmetatable({ replica = replica, types = list, from = from, to = to, rows = {}, at = 1, ended = #list == 0 },
    Stored)
end

-- The next event, false at the end. (yields)
local function peek(self)
  if self.at <= #self.rows then return self.rows[self.at] end
  if self.ended then return false end
  local replica = self.replica
  local rows, err = events_store.typed_range(replica.db, replica.tenant, replica.run_id, self.from, self.to, self.types,
    PAGE)
  if rows == nil then return nil, err end
  self.rows, self.at, self.ended = rows, 1, #rows < PAGE
  if #rows > 0 then self.from = rows[#rows].seq end
  return rows[1] or false
end

---Folds the events up to (and without) a number. (yields)
---@return true|nil
---@return table|nil err
function Stored:up_to(seq)
  while true do
    local row, err = peek(self)
    if row == nil then return nil, err end
    if not row or row.seq >= seq then return true end
    self.replica.rev:reduce(self.replica.key, row.document)
    self.at = self.at + 1
  end
end

return M
