-- Lists of runs. Runs that have ended have an index for every order, and for every filter that can be rare; those that are
-- not over are few and found in runs_open_idx. Each list is read of both. The counts of a page stop at
-- COUNT_MAX, so that a page costs the same however many runs there are. What is looked for within texts
-- and tags is found by the entries of runs, counted and put in order, unless it is so common that it is soon met in order:
-- first among the newest runs, then, where only old ones have it, among the entries, which are short.

local pg = require("host.pg")

local json = require("macp.core.json")
local db_door = require("macp.store.db")
local run_entries = require("macp.store.run_entries")
local run_words = require("macp.store.run_words")
local runs_store = require("macp.store.runs")
local scenarios = require("macp.store.scenarios")

-- runs_ended_created_at_idx, runs_ended_updated_at_idx; with a status runs_ended_status_idx, with an environment
-- runs_ended_environment_status_idx
local COLUMN = { createdAt = "created_at", updatedAt = "updated_at" }

local DENSE = 8 -- one in so many runs: then looking through them in their order finds a page soon
local PIECE = 3 -- letters of an id that the index of pieces knows; fewer are in nearly any
local SOME = 8 -- times FOUND_MAX: less dense ones are found all the same up to that many

-- A run that changed for the last time soon after it was created. runs_ended_late_idx has those that did not.
local PROMPT = "((updated_at at time zone 'UTC') between (created_at at time zone 'UTC') "
  .. "and (created_at at time zone 'UTC') + interval '1 hour')"

-- Statuses of runs that have ended, each with an order of its own, and the others, which hardly occur among them.
local STATUSES = { " and status = 'completed'", " and status = 'failed'", " and status = 'cancelled'",
  " and status in ('queued', 'starting', 'binding_session', 'running', 'suspended')" }

-- WINDOW: runs of the order that are looked through one by one
local M = { COUNT_MAX = 10000, FOUND_MAX = 10000, WINDOW = 8000 }

local function order_of(query, column)
  return (" order by %s %s, id %s"):format(column or COLUMN[query.sort_by], query.sort_order, query.sort_order)
end

-- The conditions that the indexes of orders know.
local function add_plain(filter, query)
  if query.status then filter:add("status = ?", query.status) end
  if query.created_after_ms then filter:add("created_at > ?", pg.ts(query.created_after_ms)) end
  if query.created_before_ms then filter:add("created_at < ?", pg.ts(query.created_before_ms)) end
  if not query.include_sandbox then filter:only("mode <> 'sandbox'") end
  if not query.include_archived then filter:only("archived_at is null") end
  if query.environment then scenarios.add_equal(filter, "environment", query.environment) end
end

-- The mode of a run: that of its session, else the one that was asked for.
local MODE = "coalesce(metadata ->> 'modeName', metadata #>> '{executionRequest,session,modeName}')"

-- The others, looked at run by run.
local function add_texts(filter, query)
  if query.tags then filter:add("tags @> ?::jsonb", query.tags) end
  if query.scenario_ref then scenarios.add_plain(filter, query.scenario_ref) end
  if query.mode_name then filter:add(MODE .. " = ?", query.mode_name) end
  if query.search then filter:add(scenarios.SEARCHED .. " ilike ?", db_door.contains(query.search)) end
end

local function searches(query) return query.tags or query.mode_name or query.scenario_ref or query.search end

-- That a run has ended, in the words of each index that may be used: alike, they could not be used together.
local function add_ended(filter, query)
  if query.status then filter:only("(ended_at is null) is false") end
  if query.environment then filter:only("(ended_at is null) is not true") end
  if not (query.status or query.environment) then filter:only("ended_at is not null") end
end

-- Of runs that are open.
local function open_where(filter, query)
  return filter:apart(function()
    add_plain(filter, query)
    add_texts(filter, query)
  end)
end

-- Conditions of what has ended in a list that is read in order: run by run, whatever is looked for.
-- runs_ended_environment_status_idx has the order of time within each status.
local function ended_branches(filter, query)
  local ended = filter:apart(function()
    add_ended(filter, query)
    add_plain(filter, query)
    add_texts(filter, query)
  end)
  local branches = { ended }
  if query.environment and not query.status and scenarios.is_indexed(query.environment) then
    for i, status in ipairs(STATUSES) do branches[i] = ended .. status end
  end
  return branches
end

local function ordered_wheres(filter, query)
  return { open = open_where(filter, query), ended = ended_branches(filter, query) }
end

-- Columns of runs that have ended; `tail` ends each branch.
local function ended_runs(columns, where, tail)
  local list = {}
  for i, branch in ipairs(where.ended) do
    list[i] = "(select " .. columns .. " from runs where tenant = $1" .. branch .. tail .. ")"
  end
  return table.concat(list, " union all ")
end

-- Columns of both kinds of runs.
local function both(columns, where, tail)
  return "(select " .. columns .. " from runs where tenant = $1 and ended_at is null" .. where.open .. tail
    .. ") union all " .. ended_runs(columns, where, tail)
end

-- Rows in their order, given a text that tells their ids.
local function rows_of_ids(query, ids)
  return "select " .. (query.columns or runs_store.COLUMNS) .. " from runs where tenant = $1 and id = any(" .. ids
    .. ")" .. order_of(query)
end

-- Rows of a page, which is looked for in its order: the indexes alone tell it. Of those that have ended only so many are
-- put between the open ones as these can move; those before are passed over. Entries tell what is looked for in texts,
-- where they have the order: run_entries_times_idx
local function page_statement(tenant, query)
  local filter = db_door.filter(tenant)
  local by_entries = searches(query) and query.sort_by == "createdAt" and run_entries.can_tell(query)
  local where = by_entries and { open = open_where(filter, query), ended = { "" } } or ordered_wheres(filter, query)
  local limit, offset = filter:param(query.limit), filter:param(query.offset)
  local columns, order = "id, " .. COLUMN[query.sort_by] .. " as at", order_of(query)
  local reach = " limit " .. filter:param(query.limit + query.offset)
  local open = "with open as materialized (select " .. columns .. " from runs where tenant = $1 and ended_at is null"
    .. where.open .. order .. reach .. ") "
  local count, tail, first = "(select count(*) from open)", order .. reach, offset
  if #where.ended == 1 then
    tail = order .. " limit " .. limit .. "::bigint + " .. count .. " offset greatest(0, " .. offset .. "::bigint - "
      .. count .. ")"
    first = "least(" .. offset .. "::bigint, " .. count .. ")"
  end
  local ended = by_entries and run_entries.select(filter, query, "run_id as id, created_at as at", tail, true)
    or ended_runs(columns, where, tail)
  return { open .. rows_of_ids(query, "array(select id from ((select * from open" .. order_of(query, "at")
    .. ") union all " .. ended .. ") page" .. order_of(query, "at") .. " limit " .. limit
    .. " offset " .. first .. ")"), filter.params }
end

-- Times of runs that have ended; of what is asked of time alone run_entries_times_idx has them.
local function timed_runs(filter, query, tail)
  local columns = "id, created_at, updated_at"
  if query.status or query.environment then
    return ended_runs(columns, { ended = ended_branches(filter, query) }, tail)
  end
  return "(select " .. columns .. " from (select run_id as id, created_at, updated_at from run_entries "
    .. "where tenant = $1" .. run_entries.where(filter, query) .. ") e where true" .. tail .. ")"
end

-- How far into the order of createdAt a page in the order of updatedAt can reach: of as many prompt runs as there are up to
-- its end, all that come before in the order of updatedAt were created within an hour of the last of these.
local function bound_statement(tenant, query)
  local filter = db_door.filter(tenant)
  local reach = filter:param(query.limit + query.offset)
  local tail = " and " .. PROMPT .. order_of(query, "created_at") .. " limit " .. reach
  return { "select case when count(*) = " .. reach .. " then (" .. (query.sort_order == "asc" and "max(updated_at)"
    or "min(updated_at) - interval '1 hour'") .. ")::text end as bound from (select updated_at from ("
    .. timed_runs(filter, query, tail) .. ") prompt" .. order_of(query, "created_at") .. " limit "
    .. reach .. ") first", filter.params }
end

-- Prompt runs as far as that, and of the others, which are few or late, as many as fit in.
local function bounded_statement(tenant, query, bound)
  local filter = db_door.filter(tenant)
  local open, late = open_where(filter, query), filter:apart(function()
    filter:only("ended_at is not null and not " .. PROMPT)
    add_plain(filter, query)
  end)
  local limit, offset = filter:param(query.limit), filter:param(query.offset)
  local order, reach = order_of(query), " limit " .. filter:param(query.limit + query.offset)
  local within = bound and (" and created_at " .. (query.sort_order == "asc" and "<= " or ">= ") .. filter:param(bound)
    .. "::timestamptz") or ""
  return { rows_of_ids(query, "array(select id from (select id, updated_at from ("
    .. timed_runs(filter, query, within .. " and " .. PROMPT) .. ") prompt"
    .. " union all (select id, updated_at from runs where tenant = $1" .. late .. order .. reach
    .. ") union all (select id, updated_at from runs where tenant = $1 and ended_at is null" .. open .. order
    .. reach .. ")) page" .. order .. " limit " .. limit .. " offset " .. offset .. ")"), filter.params }
end

-- Whether the order is one that no index has together with what is asked for.
local function is_across(query)
  return query.sort_by == "updatedAt" and (query.status or query.environment or query.created_after_ms
    or query.created_before_ms) ~= nil
end

-- In the order of an index, so that it is read, and only as far as that.
local function count_statement(tenant, query)
  local filter = db_door.filter(tenant)
  local where = ordered_wheres(filter, query)
  return { "select count(*) as total from (" .. both("1", where, " order by created_at desc, id desc limit "
    .. M.COUNT_MAX + 1) .. ") as counted", filter.params }
end

-- How many of those that ended there may be, as the planner believes, and how many runs there are.
local function estimate(db, tenant, query)
  local filter = db_door.filter(tenant)
  local statement
  if run_entries.can_tell(query) then
    statement = run_entries.select(filter, query, "run_id", "")
  else
    statement = ended_runs("id", { ended = ended_branches(filter, query) }, "")
  end
  local results, err = db:batch({
    { "explain (format json) " .. statement, filter.params },
    { "select greatest(reltuples, 0)::float8 as n from pg_class where oid = 'runs'::regclass", { n = 0 } },
  })
  if results == nil then return db_door.fail(err) end
  local plan = json.decode(results[1].rows[1]["QUERY PLAN"])
  local estimated = { found = plan[1].Plan["Plan Rows"], all = results[2].rows[1].n }
  estimated.is_dense = estimated.found * DENSE > estimated.all
  return estimated
end

-- Columns of runs of both kinds, of those that have ended by their entries.
local function found_runs(filter, query, tail, is_dense)
  local open = open_where(filter, query)
  return "(select id, created_at, updated_at from runs where tenant = $1 and ended_at is null" .. open .. tail
    .. ") union all " .. run_entries.select(filter, query, "run_id, created_at, updated_at", tail, is_dense)
end

-- Finds up to so many runs by their entries, counts them and puts them in order.
local function found_statement(tenant, query, estimated)
  local filter = db_door.filter(tenant)
  local found = found_runs(filter, query, " limit " .. SOME * M.FOUND_MAX + 1, estimated.is_dense)
  local limit, offset = filter:param(query.limit), filter:param(query.offset)
  return { "with found as materialized (" .. found .. ") select (select count(*) from found) as total, "
    .. "array(select id from found" .. order_of(query) .. " limit " .. limit .. " offset " .. offset
    .. ")::text as ids", filter.params }
end

-- So many runs of the order most likely have a page of those that match, if these are spread evenly.
local function window_of(query, estimated)
  local needed = 3 * (query.offset + query.limit) * estimated.all / math.max(1, estimated.found)
  return math.max(math.min(M.WINDOW, math.ceil(needed)), query.offset + query.limit)
end

-- Looks through the first runs of the order only.
local function window_statement(tenant, query, estimated)
  local filter = db_door.filter(tenant)
  local plain = setmetatable({ tags = false, mode_name = false, scenario_ref = false, search = false },
    { __index = query })
  local where = ordered_wheres(filter, plain)
  local texts = filter:apart(function() add_texts(filter, query) end)
  local order = order_of(query)
  local limit, offset = filter:param(query.limit), filter:param(query.offset)
  local columns, window = "tenant, environment, scenario_ref, " .. runs_store.COLUMNS, window_of(query, estimated)
  return { "select " .. (query.columns or runs_store.COLUMNS) .. " from (select * from ("
    .. both(columns, where, order .. " limit " .. window) .. ") b" .. order .. " limit "
    .. window .. ") w where tenant = $1" .. texts .. order .. " limit " .. limit .. " offset " .. offset,
    filter.params }
end

local function rows_of(db, statement)
  local result, err = db:query(statement[1], statement[2])
  if result == nil then return db_door.fail(err) end
  return result.rows
end

-- The same with room for what many runs match: without it the pages of runs are remembered instead of the runs.
local function rows_with_room(db, statement)
  local results, err = db:batch({ db_door.ROOM, statement })
  if results == nil then return db_door.fail(err) end
  return results[2].rows
end

-- A page that is met soon in the order of the list; false: it is not. (yields)
local function window_page(db, tenant, query, estimated)
  if query.offset + query.limit > M.WINDOW or is_across(query) then return false end
  local rows, err = rows_of(db, window_statement(tenant, query, estimated))
  if rows == nil then return nil, err end
  return #rows == query.limit and { rows = rows, estimate = estimated.found }
end

-- A page of all that entries find, counted and put in order; false: there are too many. (yields)
local function found_page(db, tenant, query, estimated)
  local found, err = rows_with_room(db, found_statement(tenant, query, estimated))
  if found == nil then return nil, err end
  local total = found[1].total
  if total > SOME * M.FOUND_MAX then
    estimated.found = math.max(estimated.found, total)
    return false
  end
  local rows, rows_err = rows_of(db, { rows_of_ids(query, "$2::uuid[]"), { n = 2, tenant, found[1].ids } })
  if rows == nil then return nil, rows_err end
  return { rows = rows, total = total }
end

-- A page that is read in the order of the list, one by one. (yields)
local function ordered_page(db, tenant, query, estimated)
  local rows, err = rows_with_room(db, page_statement(tenant, query))
  if rows == nil then return nil, err end
  local is_last = #rows < query.limit and (#rows > 0 or query.offset == 0)
  return { rows = rows, total = is_last and query.offset + #rows or nil, estimate = estimated.found }
end

-- How a page is looked for, one way after the other.
local function ways(query, estimated)
  local is_piece = query.search_id and #query.search_id < PIECE and estimated.all > M.FOUND_MAX
  if not run_entries.can_tell(query) or is_piece then return { window_page, ordered_page } end
  if estimated.found <= M.FOUND_MAX then return { found_page, window_page, ordered_page } end
  local is_some = not estimated.is_dense and estimated.found <= SOME * M.FOUND_MAX
  return is_some and { window_page, found_page, ordered_page } or { window_page, ordered_page }
end

-- A page of the list without texts and terms, one by one with `count` when that is asked for, too. (yields)
local function plain_page(db, tenant, query, count)
  local statement
  if is_across(query) and query.limit + query.offset <= M.WINDOW then
    local bounds, err = rows_of(db, bound_statement(tenant, query))
    if bounds == nil then return nil, err end
    statement = bounded_statement(tenant, query, bounds[1].bound)
  else
    statement = page_statement(tenant, query)
  end
  local results, err = db:batch({ statement, count })
  if results == nil then return db_door.fail(err) end
  return results
end

-- What is looked for within texts and tags. (yields)
local function searched_page(db, tenant, query)
  local estimated, err = estimate(db, tenant, query)
  if estimated == nil then return nil, err end
  for _, way in ipairs(ways(query, estimated)) do
    local page, page_err = way(db, tenant, query, estimated)
    if page ~= false then return page, page_err end
  end
end

---One page of runs, and how many there are in all as far as that is quickly counted. (yields)
---@param query { status: string|nil, tags: string|nil, created_after_ms: integer|nil, created_before_ms: integer|nil,
---  include_sandbox: boolean, include_archived: boolean, environment: string|nil, scenario_ref: string|nil,
---  mode_name: string|nil, search: string|nil, sort_by: string, sort_order: string, limit: integer, offset: integer }
---@return { rows: table[], total: integer|nil, estimate: integer|nil }|nil total: nil when there are more than
---  COUNT_MAX, or of what is looked for within texts or tags more than FOUND_MAX: then about `estimate`
---@return table|nil err
function M.page(db, tenant, query)
  if searches(query) then
    local asked, err = run_words.resolve(db, tenant, query)
    if asked == nil then return nil, err end
    return searched_page(db, tenant, asked)
  end
  local results, err = plain_page(db, tenant, query, count_statement(tenant, query))
  if results == nil then return nil, err end
  local total = results[2].rows[1].total
  return { rows = results[1].rows, total = total <= M.COUNT_MAX and total or nil }
end

---The rows of a page alone. (yields)
---@param query table as for M.page; columns: a select list instead of that of runs
---@return table[]|nil rows
---@return table|nil err
function M.rows(db, tenant, query)
  if not searches(query) then
    local results, err = plain_page(db, tenant, query)
    if results == nil then return nil, err end
    return results[1].rows
  end
  local page, err = M.page(db, tenant, query)
  if page == nil then return nil, err end
  return page.rows
end

---How many runs there are, all counted. (yields)
---@param query table as for M.page
---@return integer|nil total
---@return table|nil err
function M.count(db, tenant, query)
  local asked, err = run_words.resolve(db, tenant, query)
  if asked == nil then return nil, err end
  local filter = db_door.filter(tenant)
  local all
  if searches(query) and run_entries.can_tell(asked) then
    all = found_runs(filter, asked, "", true)
  else
    all = both("1", ordered_wheres(filter, asked), "")
  end
  local rows, rows_err = rows_of(db, { "select count(*) as total from (" .. all .. ") all_of_them", filter.params })
  if rows == nil then return nil, rows_err end
  return rows[1].total
end

---How PostgreSQL would do a page: the lines of its plans. For specs. (yields)
function M.explain(db, tenant, query)
  if not searches(query) then
    return db_door.explain(db, { page_statement(tenant, query), count_statement(tenant, query) })
  end
  local asked, err = run_words.resolve(db, tenant, query)
  if asked == nil then return nil, err end
  local estimated, estimate_err = estimate(db, tenant, asked)
  if estimated == nil then return nil, estimate_err end
  local statement_of = ways(asked, estimated)[1] == found_page and found_statement or window_statement
  return db_door.explain(db, { statement_of(tenant, asked, estimated) })
end

return M
