-- Enrolment: rows of new runs are inserted together, so that many requests share a commit. A row that the database refuses
-- costs its own request only.

local errors = require("macp.core.errors")
local gather = require("macp.core.gather")

local runs_store = require("macp.store.runs")

local MAX_ROWS = 256 -- in one transaction

---@class macp.plane.Enrolment
---@field transactions integer tried so far
local Enrolment = {}
Enrolment.__index = Enrolment

local M = {}

-- Inserts some rows in one transaction; the ones that cannot be stored fail, the others are tried again. (yields)
local function store(self, items)
  while #items > 0 do
    local rows = {}
    for i, item in ipairs(items) do rows[i] = item.value end
    self.transactions = self.transactions + 1
    local inserted, err, index = runs_store.insert_all(self.db, rows)
    if inserted then
      for i, item in ipairs(items) do item:settle(inserted[i]) end
      return
    end
    if index == 0 and #items > 1 then
      for _, item in ipairs(items) do store(self, { item }) end
      return
    end
    if index == nil or items[index] == nil then
      for _, item in ipairs(items) do item:settle(nil, err) end
      return
    end
    table.remove(items, index):settle(nil, err)
  end
end

---@param db table
function M.new(db)
  local self = setmetatable({ db = db, transactions = 0 }, Enrolment)
  self.gather = gather.new({ max = MAX_ROWS, work = function(items) store(self, items) end,
    closed = function() return errors.new("SHUTTING_DOWN") end })
  return self
end

---Inserts a queued run; false when its id, session or idempotency key is taken. (yields)
---@param row table as store/runs.lua takes it
---@return boolean|nil inserted
---@return table|nil err
function Enrolment:insert(row) return self.gather:ask(row) end

---Inserts what is asked for until the task is cancelled. (yields)
function Enrolment:work() return self.gather:run() end

return M
