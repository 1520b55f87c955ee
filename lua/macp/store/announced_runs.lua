-- Runs that somebody asks for, stored many at a time: each with its first event and the audit entry of its request, by one
-- statement for all of them.

local crypto = require("host.crypto")
local pg = require("host.pg")

local db_door = require("macp.store.db")

-- What is told of a run, column by column, each as one array.
local GIVEN = {
  { "tenant", "text" }, { "id", "uuid" }, { "status", "text" }, { "mode", "text" }, { "runtime_kind", "text" },
  { "runtime_version", "text" }, { "runtime_session_id", "text" }, { "trace_id", "text" },
  { "idempotency_key", "text" }, { "descriptor_hash", "bytea" }, { "source_kind", "text" }, { "source_ref", "text" },
  { "environment", "text" }, { "scenario_ref", "text" }, { "tags", "jsonb" }, { "metadata", "jsonb" },
  { "cancel_callback", "jsonb" }, { "delegated_cancel", "boolean" }, { "lease_owner", "text" },
  { "created_at", "timestamptz" }, { "trace_context", "jsonb" }, { "is_session_named", "boolean" },
  { "created", "text" },
  { "audit_id", "uuid" }, { "actor", "text" }, { "actor_type", "text" }, { "action", "text" }, { "resource", "text" },
  { "details", "jsonb" }, { "request_id", "text" },
}

local names, arrays = {}, {}
for i, column in ipairs(GIVEN) do
  names[i], arrays[i] = column[1], "$" .. i .. "::" .. column[2] .. "[]"
end

-- A key that a deleted run had, and a session of another tenant's, are not given again. The tables are only asked about
-- rows that have one, by their indexes: deleted_runs_key_idx, deleted_runs_session_idx.
local INSERT = "with given as materialized (select * from unnest(" .. table.concat(arrays, ", ") .. [[
) as given (]] .. table.concat(names, ", ") .. [[)),
fresh as (
  insert into runs (tenant, id, status, mode, runtime_kind, runtime_version, runtime_session_id, trace_id,
    idempotency_key, descriptor_hash, source_kind, source_ref, environment, scenario_ref, tags, metadata,
    cancel_callback, delegated_cancel, lease_owner, created_at, updated_at, last_event_seq, trace_context)
  select tenant, id, status, mode, runtime_kind, runtime_version, runtime_session_id, trace_id,
    idempotency_key, descriptor_hash, source_kind, source_ref, environment, scenario_ref, tags, metadata,
    cancel_callback, delegated_cancel, lease_owner, created_at, created_at, 1, trace_context
  from given
  where case when idempotency_key is not null then (
      select true from deleted_runs d where d.tenant = given.tenant and d.idempotency_key = given.idempotency_key
      limit 1) end is null
    and case when is_session_named then (
      select true from deleted_runs d where d.tenant <> given.tenant and d.runtime_session_id = given.runtime_session_id
      limit 1) end is null
  on conflict do nothing
  returning id),
told as (
  insert into run_events_canonical (tenant, run_id, seq, ts, type, document)
  select tenant, id, 1, created_at, 'run.created', created from given join fresh using (id)),
noted as (
  insert into audit_log (tenant, id, actor, actor_type, action, resource, resource_id, details, request_id)
  select tenant, audit_id, actor, actor_type, action, resource, id::text, details, request_id
  from given join fresh using (id) where audit_id is not null)
select id from fresh]]

-- The plan is the same for any number of runs, and making it takes longer than storing one: it is made once per connection.
local KEEP_PLAN = { "select set_config('plan_cache_mode', 'force_generic_plan', true)" }

-- What of a key or a session was decided while the statement before waited: plane_admit of the migrations.
local ADMIT = "select plane_admit($1, $2, $3, $4)"
local REFUSED = "MF002"

local M = {}

-- A row's values in the order of GIVEN.
local function values_of(run)
  local audit = run.audit
  local hash = run.descriptor_hash
  return run.tenant, run.id, run.status, run.mode, run.runtime_kind, run.runtime_version, run.runtime_session_id,
    run.trace_id, run.idempotency_key, hash and "\\x" .. crypto.hex(hash), run.source_kind, run.source_ref,
    run.environment, run.scenario_ref, run.tags, run.metadata, run.cancel_callback, run.delegated_cancel,
    run.lease_owner, run.created_at, run.trace_context, run.is_session_named, run.created,
    audit and crypto.uuid7(), audit and audit.actor, audit and audit.actor_type, audit and audit.action,
    audit and audit.resource, audit and (audit.details or "{}"), audit and audit.request_id
end

local function put(columns, at, ...)
  for i = 1, #GIVEN do columns[i][at] = (select(i, ...)) end
end

local function insertion(runs)
  local columns = { n = #GIVEN }
  for i = 1, #GIVEN do columns[i] = { n = #runs } end
  for at, run in ipairs(runs) do put(columns, at, values_of(run)) end
  for i = 1, #GIVEN do columns[i] = pg.array(columns[i]) end
  return { INSERT, columns }
end

-- The question about those of the runs that have a key or a named session, nil when none has.
local function admission(runs)
  local tenants, ids, keys, sessions, n = {}, {}, {}, {}, 0
  for _, run in ipairs(runs) do
    if run.idempotency_key or run.is_session_named then
      n = n + 1
      tenants[n], ids[n], keys[n] = run.tenant, run.id, run.idempotency_key
      sessions[n] = run.is_session_named and run.runtime_session_id or nil
    end
  end
  if n == 0 then return nil end
  keys.n, sessions.n = n, n
  return { ADMIT, { n = 4, pg.array(tenants), pg.array(ids), pg.array(keys), pg.array(sessions) } }
end

---Stores runs in one transaction. Which were not: their id, session or idempotency key is taken, or was by a run that was
---deleted: the session of another tenant's run, the key of any. (yields)
---@param db table
---@param runs table[] tenant, id, status, mode, runtime_kind, runtime_version, runtime_session_id, trace_id,
---  idempotency_key, descriptor_hash (bytes), source_kind, source_ref, environment, scenario_ref, tags, metadata,
---  cancel_callback, trace_context (JSON texts), delegated_cancel, lease_owner, created_at (ISO text),
---  is_session_named: the session was asked for by its id; created: the document of run.created; audit: an entry as store/audit.lua takes it, nil: none
---@return table<string, boolean>|nil stored by id
---@return table|nil err then nothing is stored, because of one of them or of the database
function M.insert(db, runs)
  local results, err = db:batch({ KEEP_PLAN, insertion(runs), admission(runs) })
  if results == nil then
    if err.sqlstate == REFUSED and #runs == 1 then return {} end
    return db_door.fail(err)
  end
  local stored = {}
  for _, row in ipairs(results[2].rows) do stored[row.id] = true end
  return stored
end

return M
