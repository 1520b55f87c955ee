-- Table runs.

local pg = require("host.pg")

local db_door = require("macp.store.db")

local COLUMNS = [[id, status, mode, runtime_kind, runtime_version, runtime_session_id, trace_id, idempotency_key,
  last_event_seq, source_kind, source_ref, tags, metadata, error_code, error_message, created_at, started_at,
  ended_at, updated_at, archived_at]]

-- The run of a session that nobody announced, unless its run was deleted, whosever it was. A deletion may have been committed
-- while the statement waited for it, unseen by it: the next statement sees it. deleted_runs_session_idx
local INSERT_FOUND = [[
insert into runs (tenant, id, status, mode, runtime_kind, runtime_session_id, trace_id, source_kind, tags, metadata,
  delegated_cancel, lease_owner, created_at, updated_at, trace_context)
select $1, $2, 'queued', $3, $4, $5, $6, $7, $8, $9, false, $10, $11, $11, $12
where not exists (select from deleted_runs where runtime_session_id = $5)
on conflict do nothing
returning id]]
local UNDO_FOUND = [[
delete from runs where tenant = $1 and id = $2
  and exists (select from deleted_runs where runtime_session_id = $3) returning id]]

-- runs_pkey
local FIND = "select " .. COLUMNS .. " from runs where tenant = $1 and id = $2"

-- A session has one run, whosever it is: runs_session_idx
local FIND_BY_SESSION = "select tenant, id, status from runs where runtime_session_id = $1"

-- runs_idempotency_key_idx
local FIND_BY_KEY = [[
select id, status, trace_id, runtime_session_id, descriptor_hash from runs
where tenant = $1 and idempotency_key = $2]]

local FIND_CANCELLATION = "select cancel_callback, delegated_cancel from runs where tenant = $1 and id = $2"

local EXISTS = "select 1 from runs where tenant = $1 and id = $2"

local TRANSITION = [[
update runs set status = $3, started_at = coalesce(started_at, $4), ended_at = coalesce(ended_at, $5),
  error_code = coalesce($6, error_code), error_message = coalesce($7, error_message), last_event_seq = $8,
  metadata = metadata || $9::jsonb, lease_owner = case when $5::timestamptz is null then lease_owner end,
  updated_at = $10
where tenant = $1 and id = $2 and status not in ('completed', 'failed', 'cancelled')]]

-- A run that has ended keeps the time of that: changing it would write to every index once more.
local CHECKPOINT = [[
update runs set last_event_seq = $3, updated_at = case when ended_at is null then $4 else updated_at end,
  total_tokens = $5, estimated_cost_usd = $6
where tenant = $1 and id = $2]]

local TOTALS = "update runs set total_tokens = $3, estimated_cost_usd = $4 where tenant = $1 and id = $2"

local LAST_SEQ = "update runs set last_event_seq = $3 where tenant = $1 and id = $2"

-- Owners that live, processes that work for all tenants: their lease has not expired and, where that can be seen, they still have connections.
local ALIVE = [[
with alive as materialized (
  select l.owner from plane_leases l
  where l.expires_at > now()
    and (not l.visible or l.owner in (select application_name from pg_stat_activity)))
]]

local CLAIMED = [[r.tenant, r.id, r.status, r.mode, r.runtime_kind, r.runtime_session_id, r.trace_id, r.trace_context,
  r.metadata, r.created_at, r.started_at]]

-- Of all tenants: runs_open_idx
local CLAIM_ALL = ALIVE .. [[
update runs r set lease_owner = $1
where r.ended_at is null and r.status in ('queued', 'starting', 'binding_session', 'running', 'suspended')
  and (r.lease_owner is null or r.lease_owner not in (select owner from alive))
returning ]] .. CLAIMED

local CLAIM = ALIVE .. [[
update runs r set lease_owner = $2
where r.tenant = $1 and r.id = $3 and r.status not in ('completed', 'failed', 'cancelled')
  and (r.lease_owner is null or r.lease_owner = $2 or r.lease_owner not in (select owner from alive))
returning ]] .. CLAIMED

local RELEASE = "update runs set lease_owner = null where tenant = $1 and id = $2 and lease_owner = $3"

local ARCHIVE = [[
update runs set archived_at = coalesce(archived_at, now()),
  tags = case when tags ? 'archived' then tags else tags || '["archived"]'::jsonb end, updated_at = now()
where tenant = $1 and id = $2 returning ]] .. COLUMNS

local UNARCHIVE = [[
update runs set archived_at = null, tags = tags - 'archived', updated_at = now()
where tenant = $1 and id = $2 returning ]] .. COLUMNS

local LOCK_ENDED = "select status, ended_at from runs where tenant = $1 and id = $2 for update"

local M = { COLUMNS = COLUMNS }

local function insert_params(run)
  return { n = 12, run.tenant, run.id, run.mode, run.runtime_kind, run.runtime_session_id, run.trace_id,
    run.source_kind, run.tags, run.metadata, run.lease_owner, pg.ts(run.created_ms), run.trace_context }
end

---Inserts the queued run of a session that was discovered; false when its id or session is taken, or was by a run that was
---deleted, whosever it was. (yields)
---@param db table
---@return boolean|nil inserted
---@return table|nil err
function M.insert_found(db, run)
  local results, err = db:batch({ { INSERT_FOUND, insert_params(run) },
    { UNDO_FOUND, { n = 3, run.tenant, run.id, run.runtime_session_id } } })
  if results == nil then return db_door.fail(err) end
  return results[1].rows[1] ~= nil and results[2].rows[1] == nil
end

---(yields) the row, false when there is none
function M.find(db, tenant, id) return db_door.one(db, FIND, tenant, id) end

---The run of a session, of whatever tenant: { tenant, id, status }, false when there is none. Never for a caller. (yields)
function M.find_by_session(db, session_id) return db_door.one(db, FIND_BY_SESSION, session_id) end

---(yields)
function M.find_by_key(db, tenant, key) return db_door.one(db, FIND_BY_KEY, tenant, key) end

---How a run may be cancelled: { cancel_callback (JSON text), delegated_cancel }. (yields)
function M.find_cancellation(db, tenant, id) return db_door.one(db, FIND_CANCELLATION, tenant, id) end

---(yields)
function M.exists(db, tenant, id)
  local row, err = db_door.one(db, EXISTS, tenant, id)
  if row == nil then return nil, err end
  return row ~= false
end

---Adds the change of status to a unit of work; a run that has ended stays as it is.
---@param change { status: string, started_ms: integer|nil, ended_ms: integer|nil, error_code: string|nil,
---  error_message: string|nil, metadata: string|nil, seq: integer, at_ms: integer }
function M.add_transition(unit, tenant, id, change)
  unit:add(TRANSITION, tenant, id, change.status, change.started_ms and pg.ts(change.started_ms),
    change.ended_ms and pg.ts(change.ended_ms), change.error_code, change.error_message, change.seq,
    change.metadata or "{}", pg.ts(change.at_ms))
end

---Adds the last sequence number and what the calls so far cost to a unit of work.
---@param metrics { total_tokens: integer, estimated_cost_usd: number }
function M.add_checkpoint(unit, tenant, id, seq, at_ms, metrics)
  unit:add(CHECKPOINT, tenant, id, seq, pg.ts(at_ms), metrics.total_tokens, metrics.estimated_cost_usd)
end

---Adds what the calls of a run that nobody observes cost to a unit of work; nothing else about it changed.
function M.add_totals(unit, tenant, id, metrics)
  unit:add(TOTALS, tenant, id, metrics.total_tokens, metrics.estimated_cost_usd)
end

---Adds the last sequence number of a run that nobody observes to a unit of work; nothing else about it changed.
function M.add_last_seq(unit, tenant, id, seq) unit:add(LAST_SEQ, tenant, id, seq) end

---Takes over every active run of any tenant that nobody alive owns. (yields)
function M.claim_all(db, owner) return db_door.rows(db, CLAIM_ALL, owner) end

---Takes over one active run unless another live process owns it; false when it cannot be had. (yields)
function M.claim(db, tenant, owner, id) return db_door.one(db, CLAIM, tenant, owner, id) end

---Gives one run back: whoever looks for runs without an owner finds it. (yields)
function M.release(db, tenant, owner, id) return db_door.exec(db, RELEASE, tenant, id, owner) end

---Marks a run as archived and tags it so; the row, false when there is none. (yields)
function M.archive(db, tenant, id) return db_door.one(db, ARCHIVE, tenant, id) end

---Takes mark and tag away again; the row, false when there is none. (yields)
function M.unarchive(db, tenant, id) return db_door.one(db, UNARCHIVE, tenant, id) end

---Locks the row until the end of the transaction: { status, ended_at }, false when there is none. (yields)
function M.lock(tx, tenant, id) return db_door.one(tx, LOCK_ENDED, tenant, id) end

return M
