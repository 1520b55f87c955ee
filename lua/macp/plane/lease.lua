-- The lease of this process: one row, renewed every 10 s, that makes it the owner of the runs it claimed. Without it
-- for 30 s others take the runs over; what this process then still tries to write is refused by the database
-- (plane/fence.lua), and what it still holds in memory is given up after the next renewal.

local log = require("host.log")
local sys = require("host.sys")
local task = require("host.task")

local repeats = require("macp.core.repeats")
local fault = require("macp.core.fault")

local leases_store = require("macp.store.leases")

local repeated = repeats.new() -- failures that come again and again

local TTL_MS = 30000
local RENEW_MS = 10000
local IDS_PER_QUESTION = 1000

---@class macp.plane.Lease
---@field others integer processes that held a lease, too, when this one was renewed
local Lease = {}
Lease.__index = Lease

local M = {}

---@param opts { db: table, tenant: string, name: string }
function M.new(opts)
  return setmetatable({ db = opts.db, tenant = opts.tenant, name = opts.name, renewed_at = nil, others = 0 }, Lease)
end

---Takes or renews the lease. Whoever takes one forgets those that were left behind. (yields)
function Lease:renew()
  if self.renewed_at == nil then
    local pruned, prune_err = leases_store.prune(self.db, self.tenant)
    if pruned == nil then return nil, prune_err end
  end
  fault("lease.before_renew")
  local done, err = leases_store.renew(self.db, self.tenant, self.name, TTL_MS)
  if done == nil then return nil, err end
  fault("lease.renewed")
  local late_ms = self.renewed_at and sys.mono_ms() - self.renewed_at or 0
  self.renewed_at = sys.mono_ms()
  if late_ms > TTL_MS then log.warn("lease.lapsed", { after_ms = late_ms }) end
  local counted = leases_store.others(self.db, self.tenant, self.name)
  if counted then self.others = counted.n end
  return true
end

---Another process has started; the next renewal counts it.
function Lease:expect_others() self.others = math.max(1, self.others) end

---Which of these runs another process has taken over. (yields)
---@param runs table<string, macp.plane.Run|macp.plane.Announced> by id
---@return string[]|nil ids
---@return table|nil err
function Lease:lost(runs)
  local by_tenant, lost = {}, {}
  for id, run in pairs(runs) do
    local groups = by_tenant[run.tenant] or { {} }
    by_tenant[run.tenant] = groups
    if #groups[#groups] >= IDS_PER_QUESTION then groups[#groups + 1] = {} end
    table.insert(groups[#groups], id)
  end
  for tenant, groups in pairs(by_tenant) do
    for _, ids in ipairs(groups) do
      local rows, err = leases_store.lost(self.db, tenant, self.name, ids)
      if rows == nil then return nil, err end
      for _, row in ipairs(rows) do lost[#lost + 1] = row.id end
    end
  end
  return lost
end

---Keeps the lease. (yields)
---@param child macp.Child
---@param owner macp.plane.Owner gives up what others have taken
function Lease:work(child, owner)
  while not child:stopping() do
    local slept, err = task.sleep(RENEW_MS)
    if not slept then return nil, err end
    local ok, renew_err = self:renew()
    for _, runs in ipairs({ owner.runs, owner.announced }) do
      local lost
      if ok then lost, renew_err = self:lost(runs) end
      if lost == nil then
        repeated:tell("warn", "lease.renew_failed", renew_err.message, { error = renew_err.message })
        break
      end
      for _, id in ipairs(lost) do owner:lose(id) end
    end
  end
  return true
end

---Gives the lease up: others may take the runs at once. (yields)
function Lease:release()
  return leases_store.release(self.db, self.tenant, self.name)
end

return M
