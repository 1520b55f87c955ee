-- Table plane_leases: one row per running process of the control plane. Renewing it renews the ownership of all its
-- runs at once, however many there are.

local db_door = require("macp.store.db")

local RENEW = [[
insert into plane_leases (tenant, owner, visible, expires_at)
values ($1, $2, exists (select 1 from pg_stat_activity where application_name = $2),
  now() + $3 * interval '1 millisecond')
on conflict (tenant, owner) do update set expires_at = excluded.expires_at, visible = excluded.visible]]

local RELEASE = "delete from plane_leases where tenant = $1 and owner = $2"

local PRUNE = "delete from plane_leases where tenant = $1 and expires_at < now() - interval '1 day'"

local M = {}

---(yields)
function M.renew(db, tenant, owner, ttl_ms) return db_door.exec(db, RENEW, tenant, owner, ttl_ms) end

---Gives up the ownership of every run of this owner. (yields)
function M.release(db, tenant, owner) return db_door.exec(db, RELEASE, tenant, owner) end

---Forgets owners that have been gone for a day. (yields)
function M.prune(db, tenant) return db_door.exec(db, PRUNE, tenant) end

return M
