-- Events of the runs of a scenario, in the order of their time: a page and how many there are.
--
-- Entries of runs tell how many events of which type a run has, and from when to when (run_entries): these are added up, and a
-- page is read of the runs that reach into it. Only runs that are open, or cut by the time that is asked for, are counted
-- event by event. Where entries tell too little for too many runs, events are read in their order and chosen, until a page
-- is full; they are counted in the same way where the time that is asked for has not many, else run by run until there are
-- COUNTED. Of many runs only those of a first time are read where they have a page and COUNTED events.

local pg = require("host.pg")

local json = require("macp.core.json")
local db_door = require("macp.store.db")
local event_filter = require("macp.store.event_filter")
local events_store = require("macp.store.events")
local scenarios = require("macp.store.scenarios")

local ORDER = event_filter.ORDER

-- The events of one run lie far apart: by a bitmap of its index their pages are read ahead, all at once.
local BY_BITMAP = { "select set_config('enable_indexscan', 'off', true)", { n = 0 } }

local HOUR_MS = 3600000
local PAGE = "p.run_id, p.seq, (extract(epoch from p.ts) * 1000000)::bigint::text as ts_us, p.size, p.document"

-- RUNS: of fewer the events are gathered, GATHERED of them at most. KEPT: fewer are added up, else each event's run
-- is looked up. IN_TIME: events that are looked through for a count. FIRST: runs that are tried before the others.
local M = { COUNTED = 10000, RUNS = 2000, GATHERED = 60000, KEPT = 60000, IN_TIME = 300000, FIRST = 7000 }

-- How many events of a run a query means, whenever they happened, as its entry tells; null: it does not.
local function known_count(filter, query)
  if query.after_seq > 0 then return "case when seq <= " .. filter:param(query.after_seq) .. " then 0 end" end
  if query.types == nil then return "(select sum(k.n) from unnest(counts) k (n))" end
  if not event_filter.is_branched(query.types) then
    return "case when types is not null then (select coalesce(sum(k.n), 0) from unnest(types, counts) k (type, n) "
      .. "where k.type = any(" .. filter:param(pg.array(query.types)) .. ")) end"
  end
  local list, is_known = {}, {}
  for _, name in ipairs(query.types) do
    if not is_known[name] then
      is_known[name] = true
      list[#list + 1] = "coalesce(counts[array_position(types, " .. filter:param(name) .. ")], 0)"
    end
  end
  return "case when types is not null then " .. (list[1] and table.concat(list, " + ") or "0") .. " end"
end

-- As run_entries_long_idx has it: of the others all events are within an hour.
local IS_LONG = "last_at - first_at > interval '1 hour'"

-- The runs of the scenario that may have events in the time that is asked for: ids, when the events of each begin and end and
-- how many there are (n, null: not known), and whether that is all of them. runs_open_idx, run_entries_terms_idx
-- `upto`: without those whose events all come later than an hour before it. run_entries_last_at_idx
local function runs_of(filter, query, upto)
  local unknown = "select id, null::timestamptz as first_at, null::timestamptz as last_at, null::bigint as n, "
    .. "false as is_whole from runs where tenant = $1"
  local plain = filter:apart(function() scenarios.add_plain(filter, query.scenario_ref) end)
  local open = unknown .. " and ended_at is null" .. plain .. " union all "
  if not query.scenario_terms then return open .. unknown .. " and ended_at is not null" .. plain end
  local after = query.after_ms and filter:param(pg.ts(query.after_ms))
  local before = query.before_ms and filter:param(pg.ts(query.before_ms))
  local is_whole = "types is not null" .. (after and " and first_at >= " .. after or "")
    .. (before and " and last_at < " .. before or "")
  local since = after and " and last_at >= " .. after or ""
  local times = { after and " and (last_at is null or last_at >= " .. after .. ")" or "" }
  if upto then
    times = { since .. " and last_at < " .. upto, " and last_at is null",
      since .. " and last_at >= " .. upto .. " and " .. IS_LONG }
  end
  local count, terms = known_count(filter, query), filter:param(query.scenario_terms)
  for i, time in ipairs(times) do
    times[i] = "select run_id, first_at, last_at, n, is_whole and n is not null from (select run_id, first_at, "
      .. "last_at, " .. count .. " as n, " .. is_whole .. " as is_whole from run_entries where tenant = $1 "
      .. "and terms && " .. terms .. "::bigint[]" .. time
      .. (before and " and (first_at is null or first_at < " .. before .. ")" or "") .. " offset 0) entries"
  end
  return open .. table.concat(times, " union all ")
end

local function conditions(filter, query, is_any_going)
  return filter:apart(function() event_filter.add_conditions(filter, query, is_any_going) end)
end

local function position(filter, query)
  return filter:apart(function() event_filter.add_position(filter, query.position) end)
end

-- Events of the runs of `from`, each by run_events_canonical_pkey and nothing else.
local function by_run(from, where)
  return from .. " c cross join lateral (select run_id, seq, ts, type from run_events_canonical where tenant = $1 "
    .. "and run_id = c.id offset 0) e where true" .. where
end

-- The documents of keys, as many as a page sends at once. run_events_canonical_pkey
local function documents_of(filter, query, keys)
  return "(" .. events_store.sized("ts, run_id, seq", "select k.ts, k.run_id, k.seq, d.document from (" .. keys
    .. ") k cross join lateral (select document from run_events_canonical where tenant = $1 and run_id = k.run_id "
    .. "and seq = k.seq offset 0) d", ORDER:sub(2), filter:param(query.bytes)) .. ") p"
end

-- Reads a page of the runs that reach into it, and adds up. `chosen`: the runs. `bound`: until then are as many events as a
-- page has, of runs of which all are meant; `visited`: the runs that have any until then. `parts`: those to be counted.
-- With `first_until` only runs of which anything is an hour before that; `is_enough`: the others change nothing.
local function gather_statement(tenant, query, is_any_going, first_until)
  local filter = db_door.filter(tenant)
  local where = event_filter.of_types(filter, query.types) .. conditions(filter, query, is_any_going)
  local page, first, seen = filter:param(query.limit + 1), "", ""
  if query.position then
    local ts = event_filter.position_ts(filter, query.position)
    first, seen = " and first_at > " .. ts, " and (last_at is null or last_at >= " .. ts .. ")"
  end
  local upto = first_until and filter:param(pg.ts(first_until)) .. "::timestamptz"
  local chosen = runs_of(filter, query, upto)
  local is_enough = upto and "(select ts from bound) < " .. upto .. " - interval '1 hour'" or "true"
  return { "with chosen as materialized (" .. chosen .. " limit " .. M.KEPT + 1 .. "), "
    .. "sums as materialized (select count(*) as runs, coalesce(sum(n) filter (where is_whole), 0)::bigint as whole "
    .. "from chosen), "
    .. "ends as (select last_at, sum(n) over (order by last_at, id) as upto from (select id, last_at, n from chosen "
    .. "where is_whole and n > 0" .. first .. " order by last_at, id limit " .. page .. ") e), "
    .. "bound as materialized (select coalesce(min(last_at), 'infinity') as ts from ends where upto >= " .. page
    .. "), "
    .. "visited as materialized (select id from chosen where n is distinct from 0 and (first_at is null or first_at <= "
    .. "(select ts from bound))" .. seen .. " limit " .. M.RUNS + 1 .. "), "
    .. "found as materialized (select run_id, seq, ts from " .. by_run("visited", where)
    .. " and ts <= (select ts from bound)" .. position(filter, query) .. " and (select count(*) from visited) <= "
    .. M.RUNS .. " limit " .. M.GATHERED + 1 .. "), "
    .. "parts as materialized (select id from chosen where not is_whole and n is distinct from 0 limit " .. M.RUNS + 1
    .. "), "
    .. "rest as materialized (select count(*) as n from (select 1 from " .. by_run("parts", where)
    .. " and (select count(*) from parts) <= " .. M.RUNS .. " limit " .. (query.exact and "all"
      or "greatest(0, " .. M.COUNTED .. " - (select whole from sums))") .. ") counted) "
    .. "select counts.*, " .. PAGE .. " from (select (select runs from sums) as runs, (select count(*) from visited) "
    .. "as visited, (select count(*) from found) as gathered, (select count(*) from parts) as parts, "
    .. "(select whole from sums) + (select n from rest) as total, " .. is_enough .. " as is_enough) counts left join "
    .. documents_of(filter, query, "select * from found" .. ORDER .. " limit " .. page)
    .. " on true order by p.ts, p.run_id, p.seq", filter.params }
end

-- What comes before a statement that chooses events, and the condition by which it does: the ids of the runs in a hash, or
-- each run looked up by runs_pkey.
local function choosing(filter, query)
  local plain = filter:apart(function() scenarios.add_plain(filter, query.scenario_ref) end)
  return "with chosen as materialized (select id from (" .. runs_of(filter, query) .. ") r limit " .. M.KEPT + 1
    .. ") ",
    " and case when (select count(*) from chosen) <= " .. M.KEPT .. " then run_id in (select id from chosen) else "
    .. "(select true from runs where tenant = $1 and id = run_events_canonical.run_id" .. plain .. " limit 1) end"
end

local function chosen_page_statement(tenant, query, is_any_going)
  local filter = db_door.filter(tenant)
  local with, is_chosen = choosing(filter, query)
  local where = conditions(filter, query, is_any_going) .. position(filter, query) .. is_chosen
  local tail = ORDER .. " limit " .. filter:param(query.limit + 1)
  local events = event_filter.union("run_id, seq, ts", where, event_filter.branches_of(filter, query.types), tail)
  local page = documents_of(filter, query, "select * from (" .. events .. ") u" .. tail)
  return { with .. "select " .. PAGE .. " from " .. page .. " order by p.ts, p.run_id, p.seq", filter.params }
end

local function most_of(query) return query.exact and "all" or M.COUNTED end

local function chosen_count_statement(tenant, query, is_any_going)
  local filter = db_door.filter(tenant)
  local with, is_chosen = choosing(filter, query)
  local where = event_filter.of_types(filter, query.types) .. conditions(filter, query, is_any_going) .. is_chosen
  return { with .. "select count(*) as total from (select 1 from run_events_canonical where tenant = $1" .. where
    .. " limit " .. most_of(query) .. ") counted", filter.params }
end

local function count_by_run_statement(tenant, query, is_any_going)
  local filter = db_door.filter(tenant)
  local where = event_filter.of_types(filter, query.types) .. conditions(filter, query, is_any_going)
  return { "select count(*) as total from (select 1 from " .. by_run("(" .. runs_of(filter, query) .. ")", where)
    .. " limit " .. most_of(query) .. ") counted", filter.params }
end

-- How many events of whatever scenario there may be, as the planner believes. (yields)
local function estimate(db, tenant, query)
  local filter = db_door.filter(tenant)
  local where = event_filter.of_types(filter, query.types) .. conditions(filter, query, false)
  local row, err = db:query("explain (format json) select 1 from run_events_canonical where tenant = $1" .. where,
    filter.params)
  if row == nil then return db_door.fail(err) end
  return json.decode(row.rows[1]["QUERY PLAN"])[1].Plan["Plan Rows"]
end

local function page_of_many(db, tenant, query, is_any_going)
  local in_time, err = estimate(db, tenant, query)
  if in_time == nil then return nil, err end
  local count_statement = in_time <= M.IN_TIME and chosen_count_statement or count_by_run_statement
  local results, batch_err = db:batch({ db_door.ROOM, chosen_page_statement(tenant, query, is_any_going),
    count_statement(tenant, query, is_any_going) })
  if results == nil then return db_door.fail(batch_err) end
  return { rows = results[2].rows, total = results[3].rows[1].total }
end

-- Until when about FIRST runs of the scenario have their events, nil when there are not many more. (yields)
local function first_until(db, tenant, query)
  local filter = db_door.filter(tenant)
  local runs = "select 1 from run_entries where tenant = $1 and terms && " .. filter:param(query.scenario_terms)
    .. "::bigint[]" .. (query.after_ms and " and last_at >= " .. filter:param(pg.ts(query.after_ms)) or "")
  local results, err = db:batch({ { "explain (format json) " .. runs, filter.params },
    { "select min(last_at) as oldest, max(last_at) as newest from run_entries where tenant = $1", { n = 1, tenant } } })
  if results == nil then return db_door.fail(err) end
  local among = json.decode(results[1].rows[1]["QUERY PLAN"])[1].Plan["Plan Rows"]
  local ends = results[2].rows[1]
  if ends.newest == nil or among < 1.25 * M.FIRST then return nil end
  local from = math.max(ends.oldest, query.after_ms or ends.oldest)
  return math.floor(from + (ends.newest - from) * M.FIRST / among) + HOUR_MS
end

-- Whether what was gathered is all that a page and its total are made of.
local function is_gathered(first, query)
  return first.is_enough and first.runs <= M.KEPT and first.visited <= M.RUNS and first.parts <= M.RUNS
    and (first.gathered <= M.GATHERED or query.exact)
end

local function gathered(rows, query)
  local total = query.exact and rows[1].total or math.min(rows[1].total, M.COUNTED)
  return { rows = rows[1].run_id and rows or {}, total = total }
end

-- A page and a total of COUNTED, as the runs of a first time have them; false: they have not. (yields)
local function first_page(db, tenant, query)
  local until_ms, err = first_until(db, tenant, query)
  if err then return nil, err end
  if until_ms == nil then return false end
  local results, batch_err = db:batch({ db_door.ROOM, BY_BITMAP, gather_statement(tenant, query, false, until_ms) })
  if results == nil then return db_door.fail(batch_err) end
  local rows = results[3].rows
  return is_gathered(rows[1], query) and rows[1].total >= M.COUNTED and gathered(rows, query)
end

---A page of events after a position, one more when there are further ones, and the total. (yields)
---@param query table as for event_search.page, with `scenario_terms` of run_words.resolve, without run_id
---@param is_any_going boolean whether runs are being deleted
---@return { rows: table[], total: integer }|nil
---@return table|nil err
function M.page(db, tenant, query, is_any_going)
  if query.scenario_terms and not (query.position or query.exact or is_any_going) and query.after_seq == 0 then
    local page, err = first_page(db, tenant, query)
    if page ~= false then return page, err end
  end
  local results, err = db:batch({ db_door.ROOM, BY_BITMAP, gather_statement(tenant, query, is_any_going) })
  if results == nil then return db_door.fail(err) end
  local rows = results[3].rows
  if not is_gathered(rows[1], query) then return page_of_many(db, tenant, query, is_any_going) end
  return gathered(rows, query)
end

return M
