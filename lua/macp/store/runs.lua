-- Table runs.

local pg = require("host.pg")

local db_door = require("macp.store.db")

local COLUMNS = [[id, status, mode, runtime_kind, runtime_version, runtime_session_id, trace_id, idempotency_key,
  last_event_seq, source_kind, source_ref, tags, metadata, error_code, error_message, created_at, started_at,
  ended_at, updated_at, archived_at]]

local INSERT = [[
insert into runs (tenant, id, status, mode, runtime_kind, runtime_version, runtime_session_id, trace_id,
  idempotency_key, descriptor_hash, source_kind, source_ref, environment, scenario_ref, tags, metadata,
  cancel_callback, delegated_cancel, lease_owner, created_at, updated_at, trace_context)
values ($1, $2, 'queued', $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $19, $20)
on conflict do nothing
returning id]]

-- The same unless the session's run was deleted, whosever it was. A deletion may have been committed while the statement
-- waited for it, unseen by it: the next statement sees it. deleted_runs_session_idx
local INSERT_FOUND = INSERT:gsub("values %((.-)%)\n", [[
select %1
where not exists (select from deleted_runs where runtime_session_id = $6)
]])
local UNDO_FOUND = [[
delete from runs where tenant = $1 and id = $2
  and exists (select from deleted_runs where runtime_session_id = $3) returning id]]

-- The same with a session that is named, unless it was that of another tenant's run. deleted_runs_session_idx
local INSERT_NAMED = INSERT:gsub("values %((.-)%)\n", [[
select %1
where not exists (select from deleted_runs where tenant <> $1 and runtime_session_id = $6)
]])
local UNDO_NAMED = [[
delete from runs where tenant = $1 and id = $2
  and exists (select from deleted_runs where tenant <> $1 and runtime_session_id = $3) returning id]]

-- The same with an idempotency key. deleted_runs_key_idx
local INSERT_KEYED = INSERT_NAMED:gsub("where not", [[
where not exists (select from deleted_runs where tenant = $1 and idempotency_key = $8) and not]])
local UNDO_KEYED = [[
delete from runs where tenant = $1 and id = $2
  and exists (select from deleted_runs where tenant = $1 and idempotency_key = $3) returning id]]

-- A session that is announced is wanted again, whatever became of its tenant's run. deleted_runs_session_idx
local WANTED_AGAIN = [[
update deleted_runs set runtime_session_id = null
where tenant = $1 and runtime_session_id = $3 and exists (select from runs where tenant = $1 and id = $2)]]

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

local CHECKPOINT = [[
update runs set last_event_seq = $3, updated_at = $4, total_tokens = $5, estimated_cost_usd = $6
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

-- Of all tenants: runs_active_idx
local CLAIM_ALL = ALIVE .. [[
update runs r set lease_owner = $1
where r.status in ('queued', 'starting', 'binding_session', 'running', 'suspended')
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

local DEADLOCK = "40P01"

local M = { COLUMNS = COLUMNS }

local function insert_params(run)
  return { n = 20, run.tenant, run.id, run.mode, run.runtime_kind, run.runtime_version,
    run.runtime_session_id, run.trace_id, run.idempotency_key, run.descriptor_hash and pg.bytea(run.descriptor_hash),
    run.source_kind, run.source_ref, run.environment, run.scenario_ref, run.tags, run.metadata, run.cancel_callback,
    run.delegated_cancel, run.lease_owner, pg.ts(run.created_ms), run.trace_context }
end

-- The statements that insert a run: the first one tells whether it did, `undo` of those after it may take it back.
local function insertion(run)
  local params = insert_params(run)
  local function of_run(text, value) return { text, { n = 3, run.tenant, run.id, value } } end
  if run.is_discovered then
    return { { INSERT_FOUND, params }, of_run(UNDO_FOUND, run.runtime_session_id) }, 1
  end
  local text = run.idempotency_key and INSERT_KEYED or run.is_session_named and INSERT_NAMED or INSERT
  local statements = { { text, params } }
  if run.idempotency_key then statements[2] = of_run(UNDO_KEYED, run.idempotency_key) end
  if run.is_session_named then statements[#statements + 1] = of_run(UNDO_NAMED, run.runtime_session_id) end
  local undo = #statements - 1
  if run.is_session_named then statements[#statements + 1] = of_run(WANTED_AGAIN, run.runtime_session_id) end
  return statements, undo
end

---Inserts a queued run; false when its id, session or idempotency key is taken, or was by a run that was deleted: the
---session of a run that was discovered or that was another tenant's, the key of any. (yields)
---@param db table
---@param run table is_discovered: nobody asked for it; is_session_named: the session was asked for by its id
---@return boolean|nil inserted
---@return table|nil err
function M.insert(db, run)
  local inserted, err = M.insert_all(db, { run })
  if inserted == nil then return nil, err end
  return inserted[1]
end

---Inserts queued runs in one transaction. (yields)
---@param runs table[] as for insert
---@return boolean[]|nil inserted as insert answers for each
---@return table|nil err then nothing is stored
---@return integer|nil index of the run that could not be stored, when it is one of them; 0: another process inserts
--- some of the same at this moment, in another order
function M.insert_all(db, runs)
  local statements, owner_of, first_of, undo_of, inserted = {}, {}, {}, {}, {}
  for i, run in ipairs(runs) do
    local own, undo = insertion(run)
    first_of[i], undo_of[i] = #statements + 1, undo
    for _, statement in ipairs(own) do
      statements[#statements + 1] = statement
      owner_of[#statements] = i
    end
  end
  local results, err = db:batch(statements)
  if results == nil then
    local _, failure = db_door.fail(err)
    if err.sqlstate == DEADLOCK then return nil, failure, 0 end
    return nil, failure, err.code == "PG" and owner_of[err.index] or nil
  end
  for i = 1, #runs do
    local first = first_of[i]
    inserted[i] = results[first].rows[1] ~= nil
    for at = first + 1, first + undo_of[i] do inserted[i] = inserted[i] and not results[at].rows[1] end
  end
  return inserted
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
