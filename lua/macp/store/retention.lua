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

local M = {}

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
