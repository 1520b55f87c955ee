-- Enrolment: rows of new runs are inserted together. What came while the last transaction was on its way goes into the
-- next one, so that many requests share a commit. A row that the database refuses costs its own request only.

local task = require("host.task")

local errors = require("macp.core.errors")

local runs_store = require("macp.store.runs")

local MAX_ROWS = 256 -- in one transaction

---@class macp.plane.Enrolment
---@field transactions integer tried so far
local Enrolment = {}
Enrolment.__index = Enrolment

local M = {}

---@param db table
function M.new(db)
  return setmetatable({ db = db, queue = {}, filled = task.cond(), stored = task.cond(), closed = false,
    transactions = 0 }, Enrolment)
end

---Inserts a queued run; false when its id, session or idempotency key is taken. (yields)
---@param row table as store/runs.lua takes it
---@return boolean|nil inserted
---@return table|nil err
function Enrolment:insert(row)
  if self.closed then return nil, errors.new("SHUTTING_DOWN") end
  local item = { row = row, done = false, inserted = nil, err = nil }
  self.queue[#self.queue + 1] = item
  self.filled:signal()
  while not item.done do
    local ok, err = self.stored:wait()
    if not ok and not item.done then return nil, err end
  end
  return item.inserted, item.err
end

local function settle(item, inserted, err)
  item.done, item.inserted, item.err = true, inserted, err
end

-- Inserts some rows in one transaction; the ones that cannot be stored fail, the others are tried again. (yields)
local function store(self, items)
  while #items > 0 do
    local rows = {}
    for i, item in ipairs(items) do rows[i] = item.row end
    self.transactions = self.transactions + 1
    local inserted, err, index = runs_store.insert_all(self.db, rows)
    if inserted then
      for i, item in ipairs(items) do settle(item, inserted[i]) end
      return
    end
    if index == 0 and #items > 1 then
      for _, item in ipairs(items) do store(self, { item }) end
      return
    end
    if index == nil or items[index] == nil then
      for _, item in ipairs(items) do settle(item, nil, err) end
      return
    end
    settle(table.remove(items, index), nil, err)
  end
end

---Inserts what is asked for until the child is stopped. (yields)
function Enrolment:work()
  while not self.closed do
    local queue = self.queue
    if #queue == 0 then
      local ok, err = self.filled:wait()
      if not ok then
        self.closed = true
        return nil, err
      end
    else
      local items = {}
      if #queue <= MAX_ROWS then
        items, self.queue = queue, {}
      else
        self.queue = {}
        for i, item in ipairs(queue) do
          local list = i <= MAX_ROWS and items or self.queue
          list[#list + 1] = item
        end
      end
      store(self, items)
      self.stored:broadcast()
    end
  end
  return true
end

return M
