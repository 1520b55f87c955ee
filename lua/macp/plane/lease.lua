-- The lease of this process: one row, renewed every 10 s, that makes it the owner of the runs it claimed. Without it
-- for 30 s others take the runs over; what this process then still tries to write collides on the events' numbers.

local log = require("host.log")
local sys = require("host.sys")
local task = require("host.task")

local leases_store = require("macp.store.leases")

local TTL_MS = 30000
local RENEW_MS = 10000

---@class macp.plane.Lease
local Lease = {}
Lease.__index = Lease

local M = {}

---@param opts { db: table, tenant: string, name: string }
function M.new(opts)
  return setmetatable({ db = opts.db, tenant = opts.tenant, name = opts.name, renewed_at = nil }, Lease)
end

---Takes or renews the lease. (yields)
function Lease:renew()
  local done, err = leases_store.renew(self.db, self.tenant, self.name, TTL_MS)
  if done == nil then return nil, err end
  self.renewed_at = sys.mono_ms()
  return true
end

---Keeps the lease. (yields)
---@param child macp.Child
---@param on_tick fun() runs after every renewal; may yield
function Lease:work(child, on_tick)
  while not child:stopping() do
    local slept, err = task.sleep(RENEW_MS)
    if not slept then return nil, err end
    local ok, renew_err = self:renew()
    if ok then on_tick() else log.warn("lease.renew_failed", { error = renew_err.message }) end
  end
  return true
end

---Gives the lease up: others may take the runs at once. (yields)
function Lease:release()
  return leases_store.release(self.db, self.tenant, self.name)
end

return M
