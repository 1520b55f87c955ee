-- Events of the runs of a scenario, in the order of their time: a page and how many there are.
--
-- Of few runs all events are gathered, without their documents: read once, they tell both. Of many, events are read in
-- their order and chosen, until a page is full; they are counted in the same way where the time that is asked for has not
-- many, else run by run until there are COUNTED.

local pg = require("host.pg")

local json = require("macp.core.json")
local db_door = require("macp.store.db")
local event_filter = require("macp.store.event_filter")
local events_store = require("macp.store.events")
local scenarios = require("macp.store.scenarios")

local ORDER = event_filter.ORDER
local PAGE = "p.run_id, p.seq, (extract(epoch from p.ts) * 1000000)::bigint::text as ts_us, p.size, p.document"

local NEAR_MS = 3600000 -- most events of a run happen within that of its beginning

-- RUNS: of fewer the events are gathered, GATHERED of them at most. KEPT: of fewer the ids are kept, else each event's run
-- is looked up. IN_TIME: events that are looked through for a count.
local M = { COUNTED = 10000, RUNS = 2000, GATHERED = 60000, KEPT = 20000, IN_TIME = 300000 }

-- The runs of the scenario, those that are open and those that have ended: runs_open_idx, and what scenarios.lua tells.
local function runs_of(filter, query)
  local open = filter:apart(function() scenarios.add_plain(filter, query.scenario_ref) end)
  local ended = filter:apart(function() scenarios.add_ended(filter, query.scenario_ref, query.names) end)
  return "select id from runs where tenant = $1 and ended_at is null" .. open
    .. " union all select id from runs where tenant = $1 and ended_at is not null" .. ended
end

-- The same, those first that were created when the events happened which are asked for: of these a count needs few.
-- runs_ended_created_at_idx
local function likely_first(filter, query)
  local near, order
  if query.after_ms then
    near, order = "created_at >= " .. filter:param(pg.ts(query.after_ms - NEAR_MS)), "desc"
  elseif query.before_ms then
    near, order = "created_at < " .. filter:param(pg.ts(query.before_ms)), "asc"
  else
    return runs_of(filter, query)
  end
  local open = filter:apart(function() scenarios.add_plain(filter, query.scenario_ref) end)
  local ended = filter:apart(function() scenarios.add_ended(filter, query.scenario_ref, query.names) end)
  local from = "select id from runs where tenant = $1 and "
  return from .. "ended_at is null" .. open .. " union all (" .. from .. "ended_at is not null and " .. near .. open
    .. " order by created_at " .. order .. ", id " .. order .. ") union all " .. from .. "ended_at is not null and not "
    .. near .. ended
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

local function gather_statement(tenant, query, is_any_going)
  local filter = db_door.filter(tenant)
  local where = event_filter.of_types(filter, query.types) .. conditions(filter, query, is_any_going)
  local most = query.exact and "all" or M.GATHERED + 1
  local runs = "(select count(*) from chosen)"
  return { "with chosen as materialized (" .. runs_of(filter, query) .. " limit " .. M.RUNS + 1 .. "), "
    .. "found as materialized (select run_id, seq, ts from " .. by_run("chosen", where) .. " and " .. runs .. " <= "
    .. M.RUNS .. " limit " .. most .. ") select counts.*, " .. PAGE .. " from (select "
    .. runs .. " as runs, (select count(*) from found) as gathered) counts left join "
    .. documents_of(filter, query, "select * from found where true" .. position(filter, query) .. ORDER .. " limit "
      .. filter:param(query.limit + 1)) .. " on true order by p.ts, p.run_id, p.seq", filter.params }
end

-- What comes before a statement that chooses events, and the condition by which it does: the ids of the runs in a hash, or
-- each run looked up by runs_pkey.
local function choosing(filter, query)
  local plain = filter:apart(function() scenarios.add_plain(filter, query.scenario_ref) end)
  return "with chosen as materialized (" .. runs_of(filter, query) .. " limit " .. M.KEPT + 1 .. ") ",
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
  return { "select count(*) as total from (select 1 from " .. by_run("(" .. likely_first(filter, query) .. ")", where)
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

---A page of events after a position, one more when there are further ones, and the total. (yields)
---@param query table as for event_search.page, with `names` of scenarios.named, without run_id
---@param is_any_going boolean whether runs are being deleted
---@return { rows: table[], total: integer }|nil
---@return table|nil err
function M.page(db, tenant, query, is_any_going)
  local results, err = db:batch({ db_door.ROOM, gather_statement(tenant, query, is_any_going) })
  if results == nil then return db_door.fail(err) end
  local rows = results[2].rows
  local runs, gathered = rows[1].runs, rows[1].gathered
  if runs > M.RUNS or gathered > M.GATHERED and not query.exact then
    return page_of_many(db, tenant, query, is_any_going)
  end
  if rows[1].run_id == nil then rows = {} end
  return { rows = rows, total = query.exact and gathered or math.min(gathered, M.COUNTED) }
end

return M
