-- Table runtime_sessions: what the runtime said about the session of a run.

local pg = require("host.pg")

local db_door = require("macp.store.db")

local UPSERT = [[
insert into runtime_sessions (tenant, run_id, runtime_kind, runtime_session_id, mode_name, mode_version, mode_revision,
  configuration_version, policy_version, initiator_participant_id, session_state, started_at, expires_at,
  last_seen_at, capabilities, metadata)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
on conflict (tenant, run_id) do update set
  mode_name = excluded.mode_name, mode_version = excluded.mode_version, mode_revision = excluded.mode_revision,
  configuration_version = excluded.configuration_version, policy_version = excluded.policy_version,
  initiator_participant_id = excluded.initiator_participant_id, session_state = excluded.session_state,
  started_at = excluded.started_at, expires_at = excluded.expires_at, last_seen_at = excluded.last_seen_at,
  metadata = excluded.metadata, updated_at = now()]]

-- runtime_sessions_pkey
local FIND = [[
select runtime_session_id, mode_name, mode_version, mode_revision, configuration_version, policy_version,
  initiator_participant_id, session_state, started_at, expires_at, last_seen_at, capabilities, metadata,
  runtime_cursor, stream_connected_at, stream_disconnected_at, created_at, updated_at
from runtime_sessions where tenant = $1 and run_id = $2]]

local CHECKPOINT = [[
update runtime_sessions set runtime_cursor = $3, session_state = coalesce($4, session_state), last_seen_at = $5,
  updated_at = $5
where tenant = $1 and run_id = $2]]

local M = {}

---Adds the session to a unit of work.
---@param session table
function M.add_upsert(unit, tenant, run_id, session)
  unit:add(UPSERT, tenant, run_id, session.runtime_kind, session.session_id, session.mode_name, session.mode_version,
    session.mode_revision, session.configuration_version, session.policy_version, session.initiator,
    session.session_state, session.started_ms and pg.ts(session.started_ms),
    session.expires_ms and pg.ts(session.expires_ms), pg.ts(session.seen_ms), session.capabilities or "{}",
    session.metadata)
end

---Adds cursor and state to a unit of work.
function M.add_checkpoint(unit, tenant, run_id, cursor, session_state, at_ms)
  unit:add(CHECKPOINT, tenant, run_id, cursor, session_state, pg.ts(at_ms))
end

---(yields) the row, false when the run is not bound yet
function M.find(db, tenant, run_id) return db_door.one(db, FIND, tenant, run_id) end

return M
