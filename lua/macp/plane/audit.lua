-- Who changed what: one entry per change, written with the change where that is one transaction; entries of other changes
-- that end at the same moment share one.

local log = require("host.log")
local task = require("host.task")

local errors = require("macp.core.errors")
local fault = require("macp.core.fault")
local gather = require("macp.core.gather")
local json = require("macp.core.json")

local audit_store = require("macp.store.audit")
local db_door = require("macp.store.db")

---@class macp.plane.Audit
local Audit = {}
Audit.__index = Audit

local M = {}

local MAX_ENTRIES = 256 -- in one transaction
local OURSELVES = "macp-control-plane"

-- Inserts some entries; one that cannot be stored fails alone. (yields)
local function store(db, items)
  while #items > 0 do
    local list = {}
    for i, item in ipairs(items) do list[i] = item.value end
    local ok, err, index = audit_store.insert_all(db, list)
    if ok or #items == 1 or errors.is(err, "SERVICE_UNAVAILABLE") then
      for _, item in ipairs(items) do item:settle(ok, err) end
      return
    end
    if items[index] == nil then -- refused before the database saw it
      for _, item in ipairs(items) do store(db, { item }) end
      return
    end
    table.remove(items, index):settle(nil, err)
  end
end

---@param db table
---@param redactor macp.plane.Redactor|false|nil
function M.new(db, redactor)
  return setmetatable({ db = db, redactor = redactor, gather = gather.new({ max = MAX_ENTRIES,
    work = function(items) store(db, items) end, closed = function() return errors.new("SHUTTING_DOWN") end }) },
    Audit)
end

---Writes what is recorded outside of transactions, until the task is cancelled. (yields)
function Audit:work() return self.gather:run() end

---The entry of a request, for whoever stores it with the change.
---@param ctx macp.Context
---@param action string e.g. "run.archived"; the word before the dot is the resource
---@param resource_id string|nil what was changed
---@param details table|nil facts beside method and path
---@return table entry as store/audit.lua takes it
function Audit:entry(ctx, action, resource_id, details)
  local told = { method = ctx.req.method, path = ctx.req.path }
  for name, value in pairs(details or {}) do told[name] = value end
  local redactor = self.redactor
  if redactor then
    told = redactor:value(told)
    resource_id = resource_id and redactor:text(resource_id)
  end
  return {
    actor = ctx.actor.id, actor_type = ctx.actor.type, action = action, resource = action:match("^([^.]+)"),
    resource_id = resource_id, request_id = ctx.request_id, details = json.encode(told),
  }
end

---Writes the entry of a request. (yields)
---@param ctx macp.Context resource_id names what was changed, else the path's id does
---@param tx table|nil the transaction of the change
---@param details table|nil facts beside method and path
function Audit:record(ctx, action, tx, details)
  local entry = self:entry(ctx, action, ctx.resource_id or ctx.params.id, details)
  -- What ends after the worker has ended, at a shutdown, is written by itself.
  if tx or self.gather.closed then return audit_store.insert(tx or self.db, ctx.tenant, entry) end
  return self.gather:ask({ tenant = ctx.tenant, entry = entry })
end

---Writes the entry of something that no caller asked for, in the background.
---@param action string as above
---@param resource_id string|nil
---@param details table
function Audit:note(tenant, action, resource_id, details)
  local entry = { actor = OURSELVES, actor_type = "system", action = action, resource = action:match("^([^.]+)"),
    resource_id = resource_id, details = json.encode(details) }
  task.spawn(function()
    local ok, err = self.gather:ask({ tenant = tenant, entry = entry })
    if not ok then log.warn("audit.failed", { action = action, error = err and err.message }) end
  end)
end

---Runs fn(tx) and writes the entry in the same transaction: both or neither. Raises what fails. (yields)
---@return any what fn returned
function Audit:within(ctx, action, fn)
  local value = errors.check(db_door.tx(self.db, function(tx)
    local result, err = fn(tx)
    if not result then return nil, err end
    local written, write_err = self:record(ctx, action, tx)
    if written == nil then return nil, write_err end
    fault("change.before_commit")
    return result
  end))
  fault("change.committed")
  ctx.audited = true
  return value
end

return M
