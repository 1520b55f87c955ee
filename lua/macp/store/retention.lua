-- What retention asks of the database beside the runs themselves: its lock, the tenants, old entries of the audit log and
-- of webhook deliveries.

local pg = require("host.pg")

local db_door = require("macp.store.db")

local LOCK = [[
select pg_try_advisory_lock(hashtext('data-retention-lock')) as locked, pg_backend_pid() as pid]]
local UNLOCK = "select pg_advisory_unlock(hashtext('data-retention-lock'))"
local IS_HELD = "select pg_backend_pid() = $1::int as held"

-- The tenants of a table by one step each in an index that begins with the tenant.
local function tenants_of(name)
  return ([[(with recursive t as ((select min(tenant) as tenant from %s)
  union all select (select min(x.tenant) from %s x where x.tenant > t.tenant) from t where t.tenant is not null)
select tenant from t where tenant is not null)]]):format(name, name)
end

local TENANTS = tenants_of("runs") .. " union " .. tenants_of("audit_log") .. " union "
  .. tenants_of("webhook_deliveries") .. " union " .. tenants_of("deleted_runs") .. " order by 1"

-- audit_log_created_at_idx
local DELETE_AUDIT = [[
delete from audit_log where tenant = $1 and id in (
  select id from audit_log where tenant = $1 and created_at < $2 order by created_at limit $3)]]

-- webhook_deliveries_created_at_idx
local DELETE_DELIVERIES = [[
delete from webhook_deliveries where tenant = $1 and status <> 'pending' and id in (
  select id from webhook_deliveries where tenant = $1 and created_at < $2 and status <> 'pending'
  order by created_at limit $3)]]

local COUNTED = 100000 -- of each kind and tenant; beyond it a count says "at least"

-- $2, $3, $4 as in store/deletions.lua. runs_ended_at_status_idx
local DUE_RUNS = [[
select status, count(*) filter (where is_due) as n, sum(last_event_seq) filter (where is_due) as events,
  min(ended_at) filter (where is_due) as oldest, count(*) as looked_at
from (
  select status, ended_at, last_event_seq, not tags ? 'retain' and ended_at < case status when 'completed' then $2
    when 'failed' then $3 when 'cancelled' then $4::timestamptz end as is_due
  from runs
  where tenant = $1 and ended_at is not null and ended_at < greatest($2::timestamptz, $3::timestamptz, $4)
  order by ended_at limit $5) oldest
group by status]]

-- audit_log_created_at_idx, webhook_deliveries_created_at_idx
local DUE_ROWS = [[
select (select count(*) from (select from audit_log where tenant = $1 and created_at < $2 limit $3) a) as audit,
  (select count(*) from (select from webhook_deliveries where tenant = $1 and created_at < $2 and status <> 'pending'
    limit $3) d) as deliveries]]

local M = {}

---@class macp.store.Due what is old enough to be deleted
---@field runs { completed: integer, failed: integer, cancelled: integer }
---@field events integer rows of the events of those runs
---@field audit integer
---@field deliveries integer
---@field oldest_ms integer|nil when the first of the runs ended
---@field is_exact boolean false: there is more than was counted

---@return macp.store.Due
function M.none_due()
  return { runs = { completed = 0, failed = 0, cancelled = 0 }, events = 0, audit = 0, deliveries = 0, oldest_ms = nil,
    is_exact = true }
end

---Adds what is due of one tenant. (yields)
---@param before macp.store.Cutoffs of runs
---@param before_ms integer of everything else
---@param total macp.store.Due
---@return true|nil
---@return table|nil err
function M.add_due(db, tenant, before, before_ms, total)
  local rows, err = db_door.rows(db, DUE_RUNS, tenant, pg.ts(before.completed), pg.ts(before.failed),
    pg.ts(before.cancelled), COUNTED)
  if rows == nil then return nil, err end
  local looked_at = 0
  for _, row in ipairs(rows) do
    looked_at = looked_at + row.looked_at
    if row.n > 0 then
      total.runs[row.status] = total.runs[row.status] + row.n
      total.events = total.events + tonumber(row.events)
      total.oldest_ms = math.min(total.oldest_ms or math.huge, row.oldest)
    end
  end
  local others, others_err = db_door.one(db, DUE_ROWS, tenant, pg.ts(before_ms), COUNTED)
  if not others then return nil, others_err end
  total.audit, total.deliveries = total.audit + others.audit, total.deliveries + others.deliveries
  total.is_exact = total.is_exact and looked_at < COUNTED and others.audit < COUNTED and others.deliveries < COUNTED
  return true
end

---Opens the one connection that a pass works on: its lock is the connection's.
---@param url string
function M.open(url)
  return pg.open({ conninfo = url, size = 1, application_name = "macp retention", idle_close_ms = 600000 })
end

---Takes the lock for as long as the connection lives: { locked, pid }. (yields)
function M.lock(db) return db_door.one(db, LOCK) end

---Gives the lock back at once; otherwise it goes with the connection. (yields)
function M.unlock(db) return db_door.one(db, UNLOCK) end

---Is this still the connection that took the lock? (yields)
---@return boolean|nil
function M.is_held(db, pid)
  local row, err = db_door.one(db, IS_HELD, pid)
  if row == nil then return nil, err end
  return row.held
end

---Everybody who has anything stored. (yields)
---@return string[]|nil
function M.tenants(db)
  local rows, err = db_door.rows(db, TENANTS)
  if rows == nil then return nil, err end
  local names = {}
  for i, row in ipairs(rows) do names[i] = row.tenant end
  return names
end

---Deletes the oldest entries of the audit log. (yields)
---@return integer|nil count
function M.delete_audit(db, tenant, before_ms, limit)
  return db_door.exec(db, DELETE_AUDIT, tenant, pg.ts(before_ms), limit)
end

---Deletes the oldest deliveries that have ended. (yields)
---@return integer|nil count
function M.delete_deliveries(db, tenant, before_ms, limit)
  return db_door.exec(db, DELETE_DELIVERIES, tenant, pg.ts(before_ms), limit)
end

return M
