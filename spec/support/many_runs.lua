-- A database with a long past: runs of thirty days with their counters and events, made by the server itself. What is made
-- depends on the counts only, so that two databases of one size hold the same.

local pg = require("host.pg")

local workers = require("spec.support.workers")

local M = { TENANT = "default", EVENTS_PER_RUN = 10, DAYS = 30 }

-- Nearly all runs have the same mode, few another, hardly any the third.
local MODE = [[case when i % 5000 = 1 then 'macp.mode.quorum.v1' when i % 20 = 9 then 'macp.mode.task.v1'
  else 'macp.mode.decision.v1' end]]

-- The i-th of $1 runs; runs get their ids by hashing, so that the keys are as scattered as random ones.
local RUNS = [[
insert into runs (tenant, id, status, mode, runtime_kind, runtime_version, runtime_session_id, trace_id, last_event_seq,
  source_kind, source_ref, environment, scenario_ref, tags, metadata, error_code, created_at, updated_at, started_at,
  ended_at, archived_at, total_tokens, estimated_cost_usd)
select 'default', md5('run' || i)::uuid, status, case when i % 50 = 7 then 'sandbox' else 'live' end, 'rust', '1.0.0',
  md5('run' || i)::uuid::text, md5('trace' || i), 20, 'scenario', 'source-' || i % 200,
  (array['production', 'staging', 'development'])[1 + i % 3],
  'pack-' || i % 40 || '/scenario-' || i % 1000 || '@1.0.0',
  jsonb_build_array('team-' || i % 25, 'release-' || i * 24 / $1),
  jsonb_build_object('environment', (array['production', 'staging', 'development'])[1 + i % 3],
    'scenarioRef', 'pack-' || i % 40 || '/scenario-' || i % 1000 || '@1.0.0', 'durationMs', took, 'eventCount', 10,
    'modeName', ]] .. MODE .. [[, 'executionRequest', jsonb_build_object('mode', 'live',
      'runtime', jsonb_build_object('kind', 'rust'), 'session', jsonb_build_object('sessionId', md5('run' || i)::uuid,
        'modeName', ]] .. MODE .. [[, 'modeVersion', '1.0.0', 'configurationVersion', 'config.default',
        'policyVersion', 'policy.team-' || i % 300, 'ttlMs', 60000, 'participants', jsonb_build_array(
          jsonb_build_object('id', 'agent-' || i % 97), jsonb_build_object('id', 'agent-' || i % 89),
          jsonb_build_object('id', 'agent-' || i % 83))))),
  case when status = 'failed' then (array['SESSION_EXPIRED', 'RUNTIME_TIMEOUT', 'POLICY_DENIED'])[1 + i % 3] end,
  at, at + took * interval '1 ms', at, case when status <> 'suspended' then at + took * interval '1 ms' end,
  case when i % 20 = 3 then at + interval '1 day' end,
  1000 + i % 400 + i % 100, 0.001 + (i % 1000) / 1e5
from (
  select i, $2::timestamptz - (($1 - i)::float8 / $1) * interval '30 days' as at, 500 + (i * 7919) % 60000 as took,
    case when i % 5000 = 0 then 'suspended' when i % 12 = 0 then 'failed' when i % 20 = 0 then 'cancelled'
      else 'completed' end as status
  from generate_series(1, $1::bigint) i
) one]]

local SESSIONS = [[
insert into runtime_sessions (tenant, run_id, runtime_kind, runtime_session_id, mode_name, mode_version,
  configuration_version, session_state, created_at, updated_at)
select 'default', md5('run' || i)::uuid, 'rust', md5('run' || i)::uuid::text, ]] .. MODE .. [[, '1.0.0',
  'config.default', 'SESSION_STATE_RESOLVED', at, at
from generate_series(1, $1::bigint) i
cross join lateral (select $2::timestamptz - (($1 - i)::float8 / $1) * interval '30 days' as at) t]]

local METRICS = [[
insert into run_metrics (tenant, run_id, event_count, message_count, signal_count, proposal_count, decision_count,
  prompt_tokens, completion_tokens, total_tokens, estimated_cost_usd, first_event_at, last_event_at, duration_ms,
  session_state)
select 'default', md5('run' || i)::uuid, 10, 4, 1, 2, 1, 800 + i % 400, 200 + i % 100, 1000 + i % 400 + i % 100,
  0.001 + (i % 1000) / 1e5, at, at + interval '10 seconds', 10000, 'SESSION_STATE_RESOLVED'
from generate_series(1, $1::bigint) i
cross join lateral (select $2::timestamptz - (($1 - i)::float8 / $1) * interval '30 days' as at) t]]

local ACTIVITY = [[
insert into run_activity (tenant, run_id, minute, seq, signals, decisions, positives, negatives)
select 'default', md5('run' || i)::uuid, date_trunc('minute', at, 'UTC'), 20, 1, 1, (i % 4 <> 0)::int, (i % 4 = 0)::int
from generate_series(1, $1::bigint) i
cross join lateral (select $2::timestamptz - (($1 - i)::float8 / $1) * interval '30 days' as at) t]]

local PARTICIPANTS = [[
insert into run_participant_stats (tenant, run_id, participant_id, seq, messages, signals, confidence_sum, confidence_n,
  last_at)
select 'default', md5('run' || i)::uuid, 'agent-' || n || '-' || i % (100 - n), 20, 1 + n, n % 2, 0.5, 1,
  $2::timestamptz
from generate_series(1, $1::bigint) i cross join generate_series(1, 3) n]]

-- Those of runs $3 to $4.
local EVENTS = [[
insert into run_events_canonical (tenant, run_id, seq, ts, type, document)
select 'default', run_id, n * 2, at + n * interval '1 second', type,
  head || lpad(n::text, 12, '0') || middle || n * 2 || ',"ts":"' || at_text || '","type":"' || type || tail
from (
  select at, run_id, '{"id":"' || left(run_id::text, 24) as head, '","runId":"' || run_id || '","seq":' as middle,
    to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as at_text,
    '","schemaVersion":3,"subject":{"kind":"message","id":"m1"},"source":{"kind":"runtime","name":"rust-runtime"},'
      || '"data":{"modeName":"macp.mode.decision.v1","messageId":"m1","sessionId":"' || run_id || '","sender":"agent-'
      || i % 97 || '","decodedPayload":{"proposalId":"p1","reason":"' || repeat('fine ', 10) || '"}}}' as tail
  from (
    select i, md5('run' || i)::uuid as run_id, $2::timestamptz - (($1 - i)::float8 / $1) * interval '30 days' as at
    from generate_series($3::bigint, $4::bigint) i offset 0
  ) made offset 0
) one
cross join unnest(array['run.created', 'session.bound', 'participant.seen', 'message.received', 'proposal.created',
  'message.received', 'proposal.updated', 'signal.emitted', 'decision.finalized', 'run.completed'])
  with ordinality as kinds (type, n)]]

-- What the triggers of runs write, all at once afterwards; nothing before the schema that has them.
local TRIGGERS = [[
select 'alter table runs disable trigger ' || tgname as away, 'alter table runs enable trigger ' || tgname as back
from pg_trigger where tgrelid = 'runs'::regclass and tgname like 'runs\_list\_%']]

local TABLES = { "runs", "runtime_sessions", "run_metrics", "run_activity", "run_participant_stats",
  "run_events_canonical" }
local FILLS = { runs = RUNS, runtime_sessions = SESSIONS, run_metrics = METRICS, run_activity = ACTIVITY,
  run_participant_stats = PARTICIPANTS }

-- What makes loading slow, as statements that take it away and put it back: indexes and keys that nothing depends on.
-- Foreign keys come back unchecked: what is loaded is right.
local AWAY = [[
select 'drop index ' || i.indexrelid::regclass as away, pg_get_indexdef(i.indexrelid) as back, false as is_last
from pg_index i
where i.indrelid = any($1::regclass[]) and not i.indisprimary
union all
select 'alter table ' || c.conrelid::regclass || ' drop constraint ' || c.conname,
  'alter table ' || c.conrelid::regclass || ' add constraint ' || c.conname || ' ' || pg_get_constraintdef(c.oid)
    || case when c.contype = 'f' then ' not valid' else '' end, c.contype = 'f'
from pg_constraint c
where c.conrelid = any($1::regclass[]) and (c.contype = 'f'
  or c.contype = 'p' and not exists (select from pg_constraint f where f.confrelid = c.conrelid))
order by 3 desc, 1]]

local CHUNK = 50000 -- runs whose events are made by one statement
local AT_ONCE = 2

local function must(result, err)
  if result == nil then error(err.message, 3) end
  return result.rows
end

-- Runs statements, each with generous limits, some at once. (yields)
local function run_all(db, statements, on_step)
  workers.each(#statements, AT_ONCE, function(i)
    local statement = statements[i]
    on_step(statement.name)
    local ok, err = db:tx(function(tx)
      must(tx:query("set local maintenance_work_mem = '512MB'"))
      must(tx:query("set local statement_timeout = 0"))
      must(tx:query("set local lock_timeout = 0"))
      must(tx:query(statement.text, statement.params))
      return true
    end)
    if not ok then error(statement.name .. ": " .. err.message, 0) end
  end)
end

-- What is to be loaded: runs first, because it takes longest of what is not cut into pieces.
local function loads(opts)
  local count, at = opts.runs, pg.ts(opts.until_ms)
  local list = {}
  for _, name in ipairs(TABLES) do
    if FILLS[name] then list[#list + 1] = { name = name, text = FILLS[name], params = { count, at, n = 2 } } end
  end
  for first = 1, opts.events == false and 0 or count, CHUNK do
    list[#list + 1] = { name = "run_events_canonical from " .. first, text = EVENTS,
      params = { count, at, first, math.min(count, first + CHUNK - 1), n = 4 } }
  end
  return list
end

---Fills an empty, migrated database that nobody else uses. (yields)
---@param db table pool of at least two connections
---@param opts { runs: integer, until_ms: integer, events: boolean|nil, on_step: fun(name: string)|nil } the newest run
--- was created at until_ms; events = false leaves the events out
function M.fill(db, opts)
  local step = opts.on_step or function() end
  local back, last = {}, {}
  for _, row in ipairs(must(db:query(AWAY, { pg.array(TABLES), n = 1 }))) do
    must(db:query(row.away))
    local list = row.is_last and last or back
    list[#list + 1] = { name = row.back:sub(1, 80), text = row.back }
  end
  local triggers = must(db:query(TRIGGERS))
  for _, row in ipairs(triggers) do must(db:query(row.away)) end
  run_all(db, loads(opts), step)
  run_all(db, back, step)
  for _, statement in ipairs(last) do run_all(db, { statement }, step) end
  for _, row in ipairs(triggers) do must(db:query(row.back)) end
  if triggers[1] then
    step("entries of runs")
    assert(db:script("call list_past_runs()"))
    must(db:query("vacuum (analyze) run_entries"))
    must(db:query("vacuum (analyze) run_words"))
  end
  for _, name in ipairs(TABLES) do
    step("vacuum " .. name)
    must(db:query("vacuum (analyze) " .. name))
  end
end

return M
