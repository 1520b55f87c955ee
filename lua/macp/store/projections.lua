-- Tables run_projections (the latest state) and run_projection_checkpoints (earlier ones to refold from).

local pg = require("host.pg")

local db_door = require("macp.store.db")

local UPSERT = [[
insert into run_projections (tenant, run_id, seq, schema_version, document, internal, mode_state, mode_view,
  presentation, updated_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
on conflict (tenant, run_id) do update set seq = excluded.seq, schema_version = excluded.schema_version,
  document = excluded.document, internal = excluded.internal, mode_state = excluded.mode_state,
  mode_view = excluded.mode_view, presentation = excluded.presentation, updated_at = excluded.updated_at
where run_projections.seq <= excluded.seq]]

-- run_projections_pkey
local FIND = [[
select seq, schema_version, document, internal, mode_state, mode_view, presentation
from run_projections where tenant = $1 and run_id = $2]]

local INSERT_CHECKPOINT = [[
insert into run_projection_checkpoints (tenant, run_id, seq, schema_version, document, internal, mode_state)
values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing]]

-- run_projection_checkpoints_pkey, backwards
local NEAREST = [[
select seq, schema_version, document, internal
from run_projection_checkpoints
where tenant = $1 and run_id = $2 and seq <= $3 and schema_version = $4 order by seq desc limit 1]]

-- run_projection_checkpoints_pkey, backwards over those without a mode's state: their number grows with its size only
local NEAREST_MODE = [[
select seq, internal, mode_state
from run_projection_checkpoints
where tenant = $1 and run_id = $2 and seq > $3 and seq <= $4 and schema_version = $5 and mode_state is not null
order by seq desc limit 1]]

-- Every second checkpoint goes, of those with a mode's state and of the others alike; the newest stay.
-- run_projection_checkpoints_pkey
local THIN = [[
delete from run_projection_checkpoints c using (
  select seq, row_number() over (partition by mode_state is not null order by seq desc) as place
  from run_projection_checkpoints where tenant = $1 and run_id = $2) as listed
where c.tenant = $1 and c.run_id = $2 and c.seq = listed.seq and listed.place % 2 = 0]]

-- run_projection_checkpoints_pkey; lengths are read without the texts
local CHECKPOINT_BYTES = [[
select coalesce(sum(octet_length(document) + octet_length(internal) + coalesce(octet_length(mode_state), 0)), 0)::bigint
  as bytes
from run_projection_checkpoints where tenant = $1 and run_id = $2]]

-- runs_pkey: who writes a finished run's state holds its row.
local LOCK_RUN = "select status, ended_at from runs where tenant = $1 and id = $2 for update"

local DELETE = "delete from run_projections where tenant = $1 and run_id = $2"

-- Checkpoints of other rules cannot be continued from. run_projection_checkpoints_pkey
local DELETE_CHECKPOINTS = [[
delete from run_projection_checkpoints where tenant = $1 and run_id = $2 and schema_version <> $3]]

-- Finished runs of all tenants whose state was stored under other rules, by pages along run_projections_pkey.
local STALE = [[
select p.tenant, p.run_id from run_projections p join runs r on r.tenant = p.tenant and r.id = p.run_id
where (p.tenant, p.run_id) > ($1, $2) and p.schema_version <> $3 and r.ended_at is not null
order by p.tenant, p.run_id limit $4]]

local COUNT_STALE = [[
select count(*) as n from run_projections p join runs r on r.tenant = p.tenant and r.id = p.run_id
where p.schema_version <> $1 and r.ended_at is not null]]

-- Held until the transaction ends, by one process at a time.
local TRY_LOCK = "select pg_try_advisory_xact_lock(hashtextextended('macp.projections.rebuild', 0)) as locked"

local M = {}

local function bytes(value) return value and pg.bytea(value) end

---Adds the latest state to a unit of work.
---@param stored { seq: integer, schema_version: integer, document: string, internal: string, mode_state: string|nil,
---  mode_view: string|nil, presentation: string|nil, at_ms: integer }
function M.add_upsert(unit, tenant, run_id, stored)
  unit:add(UPSERT, tenant, run_id, stored.seq, stored.schema_version, stored.document, stored.internal,
    bytes(stored.mode_state), stored.mode_view, stored.presentation, pg.ts(stored.at_ms))
end

---Adds a checkpoint to a unit of work.
function M.add_checkpoint(unit, tenant, run_id, stored)
  unit:add(INSERT_CHECKPOINT, tenant, run_id, stored.seq, stored.schema_version, stored.document, stored.internal,
    bytes(stored.mode_state))
end

---Adds the removal of every second checkpoint of a run to a unit of work.
function M.add_thinning(unit, tenant, run_id) unit:add(THIN, tenant, run_id) end

---{ bytes }: how large the checkpoints of a run are. (yields)
function M.checkpoint_bytes(db, tenant, run_id) return db_door.one(db, CHECKPOINT_BYTES, tenant, run_id) end

---Writes the latest state outside of a unit, unless a later one is there. (yields)
function M.save(db, tenant, run_id, stored)
  return db_door.exec(db, UPSERT, tenant, run_id, stored.seq, stored.schema_version, stored.document,
    stored.internal, bytes(stored.mode_state), stored.mode_view, stored.presentation, pg.ts(stored.at_ms))
end

---Locks the row of a run until the transaction ends: { status, ended_at }, false when there is none. (yields)
function M.lock_run(tx, tenant, run_id) return db_door.one(tx, LOCK_RUN, tenant, run_id) end

---Writes the latest state whatever is stored, inside a transaction that holds the run. (yields)
function M.replace(tx, tenant, run_id, stored)
  local done, err = db_door.exec(tx, DELETE, tenant, run_id)
  if done then done, err = db_door.exec(tx, DELETE_CHECKPOINTS, tenant, run_id, stored.schema_version) end
  if done then done, err = M.save(tx, tenant, run_id, stored) end
  return done, err
end

---Finished runs of all tenants whose stored state has another version: rows { tenant, run_id }. (yields)
---@param after { tenant: string, run_id: string } the row before the first one
function M.stale(db, after, version, limit)
  return db_door.rows(db, STALE, after.tenant, after.run_id, version, limit)
end

---How many there are: { n }. (yields)
function M.count_stale(db, version) return db_door.one(db, COUNT_STALE, version) end

---{ locked }: whether this transaction is the one that rebuilds. (yields)
function M.try_lock(tx) return db_door.one(tx, TRY_LOCK) end

---(yields) the row, false when there is none
function M.find(db, tenant, run_id) return db_door.one(db, FIND, tenant, run_id) end

---The last checkpoint with a mode's state, after one number and at or before another: { seq, internal, mode_state },
---false when there is none. (yields)
function M.nearest_mode(db, tenant, run_id, after, seq, schema_version)
  return db_door.one(db, NEAREST_MODE, tenant, run_id, after, seq, schema_version)
end

---The last checkpoint at or before seq of this schema version without the mode's state, false when there is none. (yields)
function M.nearest(db, tenant, run_id, seq, schema_version)
  return db_door.one(db, NEAREST, tenant, run_id, seq, schema_version)
end

return M
