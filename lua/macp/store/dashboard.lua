-- What the dashboard asks of runs, run_activity and run_participant_stats. Nothing here reads events: the
-- work grows with the runs of the window.

local pg = require("host.pg")

local db_door = require("macp.store.db")
local run_list = require("macp.store.run_list")
local scenarios = require("macp.store.scenarios")

local RECENT = 10

-- Runs of the window once, those that are open and those that have ended (runs_open_idx, runs_ended_created_at_idx).
-- {outer}, {id}: nothing, or the id and whether the run is meant.
local WINDOW = [[
  select r.status, date_trunc($2, r.created_at, 'UTC') as created, date_trunc($2, r.ended_at, 'UTC') as ended,
    case when r.status = 'completed' then date_part('epoch', r.ended_at - r.started_at) * 1000 end as ms,
    r.error_code, r.source_ref, r.total_tokens, r.estimated_cost_usd{outer}
  from (
    select r.status, r.created_at, r.started_at, r.ended_at, r.error_code, r.source_ref, r.total_tokens,
      r.estimated_cost_usd{id}
    from runs r where r.tenant = $1 and r.ended_at is null and r.created_at >= $3{until}
    union all
    select r.status, r.created_at, r.started_at, r.ended_at, r.error_code, r.source_ref, r.total_tokens,
      r.estimated_cost_usd{id}
    from runs r where r.tenant = $1 and r.ended_at is not null and r.created_at >= $3{until}
  ) r]]

-- One row per bucket or label of each part; runs_ended_at_status_idx, run_activity_minute_idx.
-- $1 tenant, $2 unit of the buckets, $3 from; {r}: the runs that are meant; {join}, {minutes}, {ended}: which activity and
-- which ends are.
local OVERVIEW = [[
with {r},
errors as (
  select coalesce(error_code, 'UNKNOWN') as label, count(*) as n from r where status = 'failed'
  group by 1 order by 2 desc, 1 limit 10
),
scenarios as (
  select coalesce(source_ref, 'unknown') as label, count(*) as n from r group by 1 order by 2 desc, 1 limit 10
)
select 'created' as part, created as bucket, null::text as label, count(*)::float8 as v1,
  (count(*) filter (where status = 'completed'))::float8 as v2,
  (count(*) filter (where status = 'failed'))::float8 as v3,
  (count(*) filter (where status = 'cancelled'))::float8 as v4,
  (count(*) filter (where status in ('queued', 'starting', 'binding_session')))::float8 as v5,
  (count(*) filter (where status = 'running'))::float8 as v6,
  (count(*) filter (where status = 'suspended'))::float8 as v7,
  coalesce(sum(total_tokens), 0)::float8 as v8, coalesce(sum(estimated_cost_usd), 0)::float8 as v9
from r group by created
union all
select 'ended', ended, null, n::float8, total, p[1], p[2], p[3], null, null, null, null
from (
  select ended, count(*) as n, sum(ms) as total,
    percentile_cont(array[0.5, 0.95, 0.99]) within group (order by ms) as p
  from r where ms is not null group by ended
) times
union all
select 'error', null, label, n::float8, null, null, null, null, null, null, null, null from errors
union all
select 'scenario', null, label, n::float8, null, null, null, null, null, null, null, null from scenarios
union all
(select 'activity', date_trunc($2, a.minute, 'UTC'), null, sum(a.signals)::float8, sum(a.decisions)::float8,
  sum(a.positives - a.negatives)::float8, null, null, null, null, null, null
from run_activity a{join} where a.tenant = $1 and a.minute >= date_trunc('minute', $3::timestamptz, 'UTC'){minutes}
group by 2)
union all
(select 'done', date_trunc($2, r.ended_at, 'UTC'), null, count(*)::float8, null, null, null, null, null, null, null,
  null
from runs r where r.tenant = $1 and r.ended_at >= $3 and r.status = 'completed'{ended} group by 2)
order by 1, 2, 4 desc, 3]]

-- Of the newest runs: store/run_list.lua finds them.
local NEWEST = [[
id, status, runtime_kind, source_ref, created_at, started_at, ended_at,
  jsonb_strip_nulls(jsonb_build_object('scenarioRef', metadata->'scenarioRef',
    'environment', metadata->'environment', 'modeName', metadata->'modeName',
    'templateId', metadata->'templateId', 'finalAction', metadata->'finalAction',
    'finalConfidence', metadata->'finalConfidence', 'durationMs', metadata->'durationMs',
    'totalTokens', metadata->'totalTokens', 'estimatedCostUsd', metadata->'estimatedCostUsd',
    'error', metadata->'error')) as metadata]]

-- {runs}: nothing, or the runs that are meant: run_participant_stats_pkey, or the table alone
local AGENTS = [[
select s.participant_id, count(*) as runs, sum(s.signals)::bigint as signals, sum(s.messages)::bigint as messages,
  coalesce(sum(s.confidence_sum) / nullif(sum(s.confidence_n), 0), 0)::float8 as confidence,
  (sum(s.latency_ms_sum) / nullif(sum(s.latency_n), 0))::float8 as latency_ms
from run_participant_stats s{runs} where s.tenant = $1
group by s.participant_id order by runs desc, s.participant_id limit {limit}]]

-- runs_open_idx, runs_ended_created_at_idx
local AGENTS_RUNS = [[
 join (
  select r.id from runs r where r.tenant = $1 and r.ended_at is null{where}
  union all
  select r.id from runs r where r.tenant = $1 and r.ended_at is not null{where}
) chosen on chosen.id = s.run_id]]

local M = {}

-- Conditions on the alias r that do not depend on time.
local function add_names(filter, query)
  if query.environment then scenarios.add_equal(filter, "r.environment", query.environment) end
  if query.scenario_ref then
    filter:add("(r.source_ref = " .. filter:param(query.scenario_ref) .. " or r.scenario_ref ilike ?)",
      db_door.contains(query.scenario_ref))
  end
end

-- A text with its gaps filled.
local function filled(text, values) return (text:gsub("{(%a+)}", values)) end

-- The runs of the window, and which activity is that of runs with the names: of the runs of the window that is known, the
-- others are looked up (runs_pkey).
local function chosen(names, until_to)
  local minutes, runs = until_to("a.minute"), { ["until"] = until_to("r.created_at"), outer = "", id = "" }
  if names == "" then
    return { r = "r as materialized (" .. filled(WINDOW, runs) .. ")", join = "", minutes = minutes }
  end
  runs.outer, runs.id = ", r.id, r.is_meant", ", r.id, (true" .. names .. ") is true as is_meant"
  return { r = "w as materialized (" .. filled(WINDOW, runs) .. "), r as materialized (select * from w where is_meant)",
    join = " left join w on w.id = a.run_id",
    minutes = minutes .. " and case when w.id is not null then w.is_meant else "
      .. "(select true from runs r where r.tenant = $1 and r.id = a.run_id" .. names .. " limit 1) end" }
end

local function overview_statement(tenant, query)
  local filter = db_door.filter(tenant)
  filter:param(query.bucket)
  filter:param(pg.ts(query.from_ms))
  local to = query.to_ms and filter:param(pg.ts(query.to_ms))
  local names = filter:apart(function() add_names(filter, query) end)
  local until_to = function(column) return to and (" and " .. column .. " < " .. to) or "" end
  local parts = chosen(names, until_to)
  parts.ended = names .. until_to("r.ended_at")
  return { filled(OVERVIEW, parts), filter.params }
end

---The figures of a window, by part, and the newest runs. (yields)
---@param query { from_ms: integer, to_ms: integer|nil, bucket: "minute"|"hour"|"day", environment: string|nil,
---  scenario_ref: string|nil }
---@return { figures: table[], recent: table[] }|nil
---@return table|nil err
function M.overview(db, tenant, query)
  local results, err = db:batch({ db_door.ROOM, overview_statement(tenant, query) })
  if results == nil then return db_door.fail(err) end
  local recent, recent_err = run_list.rows(db, tenant, { environment = query.environment,
    scenario_ref = query.scenario_ref, sort_by = "createdAt", sort_order = "desc", limit = RECENT, offset = 0,
    columns = NEWEST })
  if recent == nil then return nil, recent_err end
  return { figures = results[2].rows, recent = recent }
end

---How PostgreSQL would do M.overview: the lines of its plans. For specs. (yields)
function M.explain(db, tenant, query)
  return db_door.explain(db, { overview_statement(tenant, query) })
end

---Participants with their counters over the runs of a window, those with most runs first. (yields)
---@param query { from_ms: integer|nil, to_ms: integer|nil, environment: string|nil, scenario_ref: string|nil,
---  limit: integer }
function M.agents(db, tenant, query)
  local filter = db_door.filter(tenant)
  if query.from_ms then filter:add("r.created_at >= ?", pg.ts(query.from_ms)) end
  if query.to_ms then filter:add("r.created_at < ?", pg.ts(query.to_ms)) end
  add_names(filter, query)
  local where = filter:text()
  local text = filled(AGENTS, { runs = where ~= "" and filled(AGENTS_RUNS, { where = where }) or "",
    limit = filter:param(query.limit) })
  local result, err = db:query(text, filter.params)
  if result == nil then return db_door.fail(err) end
  return result.rows
end

return M
