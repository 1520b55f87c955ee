-- Enrolment: rows of new runs, with their first events and audit entries, are stored together, so that many requests share
-- a commit. A run that the database refuses costs its own request only.

local errors = require("macp.core.errors")
local fault = require("macp.core.fault")
local gather = require("macp.core.gather")

local announced_store = require("macp.store.announced_runs")
local db_door = require("macp.store.db")

local MAX_ROWS = 256 -- in one transaction

---@class macp.plane.Enrolment
---@field transactions integer tried so far
local Enrolment = {}
Enrolment.__index = Enrolment

local M = {}

local store

-- Each half on its own: what cannot be stored is found after a few steps, however many there are.
local function store_halves(self, items)
  local middle = math.floor(#items / 2)
  store(self, { unpack(items, 1, middle) })
  store(self, { unpack(items, middle + 1) })
end

-- Whether there is hope for some of the rows.
local function is_worth_halving(err)
  return err.code ~= "CANCELLED" and (not errors.is(err, "SERVICE_UNAVAILABLE") or db_door.is_collision(err))
end

-- Stores some rows in one transaction; the ones that cannot be stored fail, the others are tried again. (yields)
function store(self, items)
  local rows = {}
  for i, item in ipairs(items) do rows[i] = item.value end
  self.transactions = self.transactions + 1
  fault("launch.before_commit")
  local stored, err = announced_store.insert(self.db, rows)
  if stored then
    for _, item in ipairs(items) do item:settle(stored[item.value.id] == true) end
  elseif #items > 1 and is_worth_halving(err) then
    store_halves(self, items)
  else
    for _, item in ipairs(items) do item:settle(nil, err) end
  end
end

---@param db table
function M.new(db)
  local self = setmetatable({ db = db, transactions = 0 }, Enrolment)
  self.gather = gather.new({ max = MAX_ROWS, work = function(items) store(self, items) end,
    closed = function() return errors.new("SHUTTING_DOWN") end })
  return self
end

---Stores a run; false when its id, session or idempotency key is taken. (yields)
---@param row table as store/announced_runs.lua takes it
---@return boolean|nil stored
---@return table|nil err
function Enrolment:insert(row) return self.gather:ask(row) end

---Stores what is asked for until the task is cancelled. (yields)
function Enrolment:work() return self.gather:run() end

return M
