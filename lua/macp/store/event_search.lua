-- Canonical events of all runs, in the order of their time: a page and how many there are.
--
-- Each type asked for is read by itself, by its own end of run_events_canonical_type_idx, and so is everything without a
-- type by run_events_canonical_listing_idx: what is read does not depend on how often the others occur, nor on what the
-- planner believes about that. With a scenario see store/scenario_events.lua.

local db_door = require("macp.store.db")
local deletions = require("macp.store.deletions")
local event_filter = require("macp.store.event_filter")
local events_store = require("macp.store.events")
local run_words = require("macp.store.run_words")
local scenario_events = require("macp.store.scenario_events")
local scenarios = require("macp.store.scenarios")

local ORDER = event_filter.ORDER

local M = { COUNTED = scenario_events.COUNTED } -- a count beyond this has to be asked for

local function conditions(filter, query, is_any_going)
  event_filter.add_conditions(filter, query, is_any_going)
  if query.scenario_ref then -- the one run that is asked for is of the scenario: runs_pkey
    local is_of_scenario = filter:apart(function() scenarios.add_plain(filter, query.scenario_ref) end)
    filter:only("exists (select from runs where tenant = $1 and id = " .. filter:param(query.run_id) .. "::uuid"
      .. is_of_scenario .. ")")
  end
end

local function page_statement(tenant, query, is_any_going)
  local filter = db_door.filter(tenant)
  conditions(filter, query, is_any_going)
  event_filter.add_position(filter, query.position)
  local tail = ORDER .. " limit " .. filter:param(query.limit + 1)
  local branches = event_filter.branches_of(filter, query.types)
  local page = "select * from (" .. event_filter.union("run_id, seq, ts, document", filter:text(), branches, tail)
    .. ") found" .. tail
  return { "select run_id, seq, (extract(epoch from ts) * 1000000)::bigint::text as ts_us, size, document from ("
    .. events_store.sized("ts, run_id, seq", page, ORDER:sub(2), filter:param(query.bytes)) .. ") listed" .. ORDER,
    filter.params }
end

-- Ordered where an index has the order: the planner would else read the table from its start, where the oldest are.
local function count_statement(tenant, query, is_any_going)
  local filter = db_door.filter(tenant)
  conditions(filter, query, is_any_going)
  local where = filter:text()
  if query.exact then
    where = where .. event_filter.of_types(filter, query.types)
    return { "select count(*) as total from run_events_canonical where tenant = $1" .. where, filter.params }
  end
  local order = not query.run_id and event_filter.is_branched(query.types) and " order by ts" or ""
  local limit = filter:param(M.COUNTED)
  local branches = event_filter.branches_of(filter, query.types)
  return { "select count(*) as total from (select from ("
    .. event_filter.union("1 as one", where, branches, order .. " limit " .. limit) .. ") found limit " .. limit
    .. ") counted", filter.params }
end

---Rows { run_id, seq, ts_us, size, document } (without the document behind the first bytes) after a position, one more than
---a page when there are further ones, and the total. For one run run_events_canonical_pkey. (yields)
---@param query { run_id: string|nil, after_seq: integer, after_ms: integer|nil, before_ms: integer|nil,
---  types: string[]|nil, scenario_ref: string|nil, limit: integer, exact: boolean, bytes: integer,
---  position: { ts_us: string, run_id: string, seq: integer }|nil }
---@return { rows: table[], total: integer }|nil
---@return table|nil err
function M.page(db, tenant, query)
  local going, going_err = deletions.unpurged(db, tenant)
  if going == nil then return nil, going_err end
  local is_any_going = going ~= false
  local asked, asked_err = run_words.resolve(db, tenant, query)
  if asked == nil then return nil, asked_err end
  if query.scenario_ref and not query.run_id then
    return scenario_events.page(db, tenant, asked, is_any_going)
  end
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
