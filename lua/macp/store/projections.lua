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
select seq, schema_version, document, internal, mode_state
from run_projection_checkpoints
where tenant = $1 and run_id = $2 and seq <= $3 and schema_version = $4 order by seq desc limit 1]]

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

---Writes the latest state outside of a unit, unless a later one is there. (yields)
function M.save(db, tenant, run_id, stored)
  return db_door.exec(db, UPSERT, tenant, run_id, stored.seq, stored.schema_version, stored.document,
    stored.internal, bytes(stored.mode_state), stored.mode_view, stored.presentation, pg.ts(stored.at_ms))
end

---(yields) the row, false when there is none
function M.find(db, tenant, run_id) return db_door.one(db, FIND, tenant, run_id) end

---The last checkpoint at or before seq of this schema version, false when there is none. (yields)
function M.nearest(db, tenant, run_id, seq, schema_version)
  return db_door.one(db, NEAREST, tenant, run_id, seq, schema_version)
end

return M
