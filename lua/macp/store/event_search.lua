-- Canonical events of all runs, in the order of their time: a page and how many there are.
--
-- Each type asked for is read by itself, by its own end of run_events_canonical_type_idx, and so is everything without a
-- type by run_events_canonical_listing_idx: what is read does not depend on how often the others occur, nor on what the
-- planner believes about that. With a scenario the runs come first, and the events of each, unless there are many.

local pg = require("host.pg")

local db_door = require("macp.store.db")
local deletions = require("macp.store.deletions")
local events_store = require("macp.store.events")
local scenarios = require("macp.store.scenarios")

local COLUMNS = "run_id, seq, ts, document"
local ORDER = " order by ts, run_id, seq"
local BRANCHES = 16 -- more types than that are looked for together
local RUNS = 2000 -- of a scenario; of more, events are read in their order and chosen

local M = { COUNTED = 10000 } -- a count beyond this has to be asked for

-- Conditions other than the type.
local function add_conditions(filter, query, is_any_going)
  if is_any_going then filter:only(deletions.NOT_GOING) end
  if query.run_id then filter:add("run_id = ?", query.run_id) end
  if query.after_seq > 0 then filter:add("seq > ?", query.after_seq) end
  if query.after_ms then filter:add("ts >= ?", pg.ts(query.after_ms)) end
  if query.before_ms then filter:add("ts < ?", pg.ts(query.before_ms)) end
end

-- The runs of a scenario, those that are open and those that have ended: runs_open_idx, and what scenarios.lua tells.
local function runs_of(filter, query)
  local open = filter:apart(function() scenarios.add_plain(filter, query.scenario_ref) end)
  local ended = filter:apart(function() scenarios.add_ended(filter, query.scenario_ref, query.names) end)
  return "select id from runs where tenant = $1 and ended_at is null" .. open
    .. " union all select id from runs where tenant = $1 and ended_at is not null" .. ended
end

-- The one run that is asked for is of the scenario: runs_pkey
local function add_of_run(filter, query)
  local is_of_scenario = filter:apart(function() scenarios.add_plain(filter, query.scenario_ref) end)
  filter:only("exists (select from runs where tenant = $1 and id = " .. filter:param(query.run_id) .. "::uuid"
    .. is_of_scenario .. ")")
end

-- The condition of each branch.
local function branches_of(filter, types)
  if types == nil then return { "" } end
  if #types > BRANCHES then return { " and type = any(" .. filter:param(pg.array(types)) .. ")" } end
  local list = {}
  for i, name in ipairs(types) do list[i] = " and type = " .. filter:param(name) end
  return list
end

local function unique(types)
  if types == nil then return nil end
  local known, list = {}, {}
  for _, name in ipairs(types) do
    if not known[name] then
      known[name] = true
      list[#list + 1] = name
    end
  end
  return list
end

-- The events of all branches, each of them in order and no longer than the limit.
local function union(columns, where, branches, order, limit)
  local list = {}
  for i, branch in ipairs(branches) do
    list[i] = "(select " .. columns .. " from run_events_canonical where tenant = $1" .. branch .. where .. order
      .. " limit " .. limit .. ")"
  end
  return table.concat(list, " union all ")
end

-- What comes before a statement that asks for a scenario, and its events: those of few runs, or chosen of all. With
-- `is true` the runs are looked up once and kept in a hash, however few of them the planner believes in.
local function of_scenario(filter, columns, where, query, order, limit)
  local runs = runs_of(filter, query)
  local types = query.types and " and type = any(" .. filter:param(pg.array(query.types)) .. ")" or ""
  local count = "(select count(*) from chosen)"
  return "with chosen as materialized (" .. runs .. " limit " .. RUNS + 1 .. ") ",
    "select e.* from chosen c cross join lateral (select " .. columns .. " from run_events_canonical where tenant = $1 "
    .. "and run_id = c.id" .. types .. where .. order .. " limit " .. limit .. ") e where " .. count .. " <= " .. RUNS
    .. " union all select w.* from (" .. union(columns, where .. " and (run_id in (" .. runs .. ")) is true",
      branches_of(filter, unique(query.types)), order, limit) .. ") w where " .. count .. " > " .. RUNS
end

-- The same without a scenario.
local function of_all(filter, columns, where, query, order, limit)
  return "", union(columns, where, branches_of(filter, unique(query.types)), order, limit)
end

local function events_of(query) return query.scenario_ref and not query.run_id and of_scenario or of_all end

local function page_statement(tenant, query, is_any_going)
  local filter = db_door.filter(tenant)
  add_conditions(filter, query, is_any_going)
  local position = query.position
  if position then
    local ts = "(to_timestamp(0) + " .. filter:param(position.ts_us) .. "::bigint * interval '1 microsecond')"
    filter:only("ts >= " .. ts) -- what the next condition implies, and an index understands
    filter:only("(ts, run_id, seq) > (" .. ts .. ", " .. filter:param(position.run_id) .. "::uuid, "
      .. filter:param(position.seq) .. "::bigint)")
  end
  if query.scenario_ref and query.run_id then add_of_run(filter, query) end
  local limit = filter:param(query.limit + 1)
  local with, events = events_of(query)(filter, COLUMNS, filter:text(), query, ORDER, limit)
  local page = "select " .. COLUMNS .. " from (" .. events .. ") found" .. ORDER .. " limit " .. limit
  local sized = events_store.sized("ts, run_id, seq", page, ORDER:sub(2), filter:param(query.bytes))
  return { with .. "select run_id, seq, (extract(epoch from ts) * 1000000)::bigint::text as ts_us, size, document"
    .. " from (" .. sized .. ") listed" .. ORDER, filter.params }
end

-- Ordered where an index has the order: the planner would else read the table from its start, where the oldest are.
local function count_statement(tenant, query, is_any_going)
  local filter = db_door.filter(tenant)
  add_conditions(filter, query, is_any_going)
  if query.scenario_ref and query.run_id then add_of_run(filter, query) end
  local where = filter:text()
  if query.exact and query.scenario_ref and not query.run_id then
    local with, events = of_scenario(filter, "1 as one", where, query, "", "all")
    return { with .. "select count(*) as total from (" .. events .. ") found", filter.params }
  end
  if query.exact then
    if query.types then where = where .. " and type = any(" .. filter:param(pg.array(query.types)) .. ")" end
    return { "select count(*) as total from run_events_canonical where tenant = $1" .. where, filter.params }
  end
  local order = not (query.run_id or query.types and #query.types > BRANCHES) and " order by ts" or ""
  local limit = filter:param(M.COUNTED)
  local with, events = events_of(query)(filter, "1 as one", where, query, order, limit)
  return { with .. "select count(*) as total from (select from (" .. events .. ") found limit " .. limit .. ") counted",
    filter.params }
end

---Rows { run_id, seq, ts_us, size, document } (without the document behind the first bytes) after a position, one more than a page when there are further ones, and the
---total. For one run run_events_canonical_pkey. (yields)
---@param query { run_id: string|nil, after_seq: integer, after_ms: integer|nil, before_ms: integer|nil,
---  types: string[]|nil, scenario_ref: string|nil, limit: integer, exact: boolean, bytes: integer,
---  position: { ts_us: string, run_id: string, seq: integer }|nil }
---@return { rows: table[], total: integer }|nil
---@return table|nil err
function M.page(db, tenant, query)
  local going, going_err = deletions.unpurged(db, tenant)
  if going == nil then return nil, going_err end
  local is_any_going = going ~= false
  local asked, asked_err = scenarios.named(db, tenant, query)
  if asked == nil then return nil, asked_err end
  local results, err = db:batch({
    page_statement(tenant, asked, is_any_going), count_statement(tenant, asked, is_any_going),
  })
  if results == nil then return db_door.fail(err) end
  return { rows = results[1].rows, total = results[2].rows[1].total }
end

---How PostgreSQL would do a page: the lines of its plans. For specs. (yields)
function M.explain(db, tenant, query)
  return db_door.explain(db, { page_statement(tenant, query, false), count_statement(tenant, query, false) })
end

return M
