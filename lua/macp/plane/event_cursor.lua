-- Stored events of some types beside another history: handed on up to wherever that history is.

local events_store = require("macp.store.events")

local PAGE = 500

---@class macp.plane.EventCursor
local Cursor = {}
Cursor.__index = Cursor

local M = {}

---@param place { db: table, tenant: string, run_id: string }
---@param types string[] none: there is nothing to hand on
---@param range { from: integer, to: integer } events after `from`, up to `to`
---@param fn fun(row: { seq: integer, document: string })
function M.new(place, types, range, fn)
  return setmetatable({ place = place, types = types, from = range.from, to = range.to, fn = fn, rows = {}, at = 1,
    ended = #types == 0 }, Cursor)
end

-- The next event, false at the end. (yields)
local function peek(self)
  if self.at <= #self.rows then return self.rows[self.at] end
  if self.ended then return false end
  local place = self.place
  local rows, err = events_store.typed_range(place.db, place.tenant, place.run_id, self.from, self.to, self.types,
    PAGE)
  if rows == nil then return nil, err end
  self.rows, self.at, self.ended = rows, 1, #rows < PAGE
  if #rows > 0 then self.from = rows[#rows].seq end
  return rows[1] or false
end

---Hands on the events up to (and without) a number. (yields)
---@return true|nil
---@return table|nil err
function Cursor:up_to(seq)
  while true do
    local row, err = peek(self)
    if row == nil then return nil, err end
    if not row or row.seq >= seq then return true end
    self.fn(row)
    self.at = self.at + 1
  end
end

return M
