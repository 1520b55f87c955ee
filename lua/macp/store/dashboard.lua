-- What the dashboard asks of runs, run_activity and run_participant_stats. Nothing here reads events: the
-- work grows with the runs of the window.

local pg = require("host.pg")

local db_door = require("macp.store.db")

local RECENT = 10

-- Runs of the window once (runs_created_at_idx), then one row per bucket or label of each part.
-- $1 tenant, $2 unit of the buckets, $3 from; %s: further conditions on runs, minutes and ended runs.
local OVERVIEW = [[
with r as materialized (
  select r.status, date_trunc($2, r.created_at, 'UTC') as created, date_trunc($2, r.ended_at, 'UTC') as ended,
    case when r.status = 'completed' then extract(epoch from r.ended_at - r.started_at)::float8 * 1000 end as ms,
    r.error_code, r.source_ref, r.total_tokens, r.estimated_cost_usd
  from runs r
  where r.tenant = $1 and r.created_at >= $3%s
),
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
from run_activity a where a.tenant = $1 and a.minute >= date_trunc('minute', $3::timestamptz, 'UTC')%s group by 2)
union all
(select 'done', date_trunc($2, r.ended_at, 'UTC'), null, count(*)::float8, null, null, null, null, null, null, null,
  null
from runs r where r.tenant = $1 and r.ended_at >= $3 and r.status = 'completed'%s group by 2)
order by 1, 2, 4 desc, 3]]

-- runs_created_at_idx, backwards
local NEWEST = [[
select r.id, r.status, r.runtime_kind, r.source_ref, r.created_at, r.started_at, r.ended_at,
  jsonb_strip_nulls(jsonb_build_object('scenarioRef', r.metadata->'scenarioRef',
    'environment', r.metadata->'environment', 'modeName', r.metadata->'modeName',
    'templateId', r.metadata->'templateId', 'finalAction', r.metadata->'finalAction',
    'finalConfidence', r.metadata->'finalConfidence', 'durationMs', r.metadata->'durationMs',
    'totalTokens', r.metadata->'totalTokens', 'estimatedCostUsd', r.metadata->'estimatedCostUsd',
    'error', r.metadata->'error')) as metadata
from runs r where r.tenant = $1 and r.mode <> 'sandbox' and r.archived_at is null%s
order by r.created_at desc, r.id desc limit ]] .. RECENT

-- runs_created_at_idx, run_participant_stats_pkey; without conditions on runs the table alone
local AGENTS = [[
select s.participant_id, count(*) as runs, sum(s.signals)::bigint as signals, sum(s.messages)::bigint as messages,
  coalesce(sum(s.confidence_sum) / nullif(sum(s.confidence_n), 0), 0)::float8 as confidence,
  (sum(s.latency_ms_sum) / nullif(sum(s.latency_n), 0))::float8 as latency_ms
from run_participant_stats s%s where s.tenant = $1%s
group by s.participant_id order by runs desc, s.participant_id limit %s]]

local M = {}

-- Conditions on the alias r that do not depend on time.
local function add_names(filter, query)
  if query.environment then filter:add("r.environment = ?", query.environment) end
  if query.scenario_ref then
    filter:add("(r.source_ref = " .. filter:param(query.scenario_ref) .. " or r.scenario_ref ilike ?)",
      db_door.contains(query.scenario_ref))
  end
end

-- The text that a filter gets by `fill`, and its conditions emptied: one list of parameters, several texts.
local function conditions(filter, fill)
  filter.conditions = {}
  fill()
  return filter:text()
end

local function overview_statement(tenant, query)
  local filter = db_door.filter(tenant)
  filter:param(query.bucket)
  filter:param(pg.ts(query.from_ms))
  local to = query.to_ms and filter:param(pg.ts(query.to_ms))
  local names = conditions(filter, function() add_names(filter, query) end)
  local until_to = function(column) return to and (" and " .. column .. " < " .. to) or "" end
  local minutes = until_to("a.minute")
  if names ~= "" then
    minutes = minutes .. " and exists (select from runs r where r.tenant = a.tenant and r.id = a.run_id" .. names .. ")"
  end
  return { OVERVIEW:format(names .. until_to("r.created_at"), minutes, names .. until_to("r.ended_at")), filter.params }
end

local function overview_statements(tenant, query)
  local newest = db_door.filter(tenant)
  add_names(newest, query)
  return { overview_statement(tenant, query), { NEWEST:format(newest:text()), newest.params } }
end

---The figures of a window, by part, and the newest runs. (yields)
---@param query { from_ms: integer, to_ms: integer|nil, bucket: "minute"|"hour"|"day", environment: string|nil,
---  scenario_ref: string|nil }
---@return { figures: table[], recent: table[] }|nil
---@return table|nil err
function M.overview(db, tenant, query)
  local results, err = db:batch(overview_statements(tenant, query))
  if results == nil then return db_door.fail(err) end
  return { figures = results[1].rows, recent = results[2].rows }
end

---How PostgreSQL would do M.overview: the lines of its plans. For specs. (yields)
function M.explain(db, tenant, query)
  return db_door.explain(db, overview_statements(tenant, query))
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
  local join = where ~= "" and " join runs r on r.tenant = s.tenant and r.id = s.run_id" or ""
  if where ~= "" then where = " and r.tenant = $1" .. where end
  local text = AGENTS:format(join, where, filter:param(query.limit))
  local result, err = db:query(text, filter.params)
  if result == nil then return db_door.fail(err) end
  return result.rows
end

return M
