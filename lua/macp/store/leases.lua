-- Table plane_leases: one row per running process of the control plane. Renewing it renews the ownership of all its
-- runs at once, however many there are. What only an owner may do asks plane_fence in the same transaction.

local pg = require("host.pg")

local db_door = require("macp.store.db")

local RENEW = [[
insert into plane_leases (tenant, owner, visible, expires_at)
values ($1, $2, exists (select 1 from pg_stat_activity where application_name = $2),
  now() + $3 * interval '1 millisecond')
on conflict (tenant, owner) do update set expires_at = excluded.expires_at, visible = excluded.visible]]

local OTHERS = "select count(*) as n from plane_leases where tenant = $1 and owner <> $2 and expires_at > now()"

-- runs_pkey
local LOST = [[
select id from runs where tenant = $1 and id = any($3::uuid[]) and lease_owner <> $2]]

local FENCE = "select plane_fence($1, $2, $3::uuid[])"

local RELEASE = "delete from plane_leases where tenant = $1 and owner = $2"

local PRUNE = "delete from plane_leases where tenant = $1 and expires_at < now() - interval '1 day'"

local M = { FENCED = "MF001" } -- SQLSTATE of a refused commit

---(yields)
function M.renew(db, tenant, owner, ttl_ms) return db_door.exec(db, RENEW, tenant, owner, ttl_ms) end

---How many other processes hold a lease: { n }. (yields)
function M.others(db, tenant, owner) return db_door.one(db, OTHERS, tenant, owner) end

---Which of these runs belong to another process now: rows { id }. (yields)
---@param run_ids string[]
function M.lost(db, tenant, owner, run_ids) return db_door.rows(db, LOST, tenant, owner, pg.array(run_ids)) end

---Adds to a unit of work that it fails (FENCED) when one of these runs belongs to another process.
---@param run_ids string[]
function M.add_fence(unit, tenant, owner, run_ids) return unit:add(FENCE, tenant, owner, pg.array(run_ids)) end

---Gives up the ownership of every run of this owner. (yields)
function M.release(db, tenant, owner) return db_door.exec(db, RELEASE, tenant, owner) end

---Forgets processes that ended without a word a day ago or earlier. (yields)
function M.prune(db, tenant) return db_door.exec(db, PRUNE, tenant) end

return M
