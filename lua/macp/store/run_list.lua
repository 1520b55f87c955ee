-- Lists of runs. Every order has an index, and so has every filter that can be rare; the counts of a page stop at
-- COUNT_MAX, so that a page costs the same however many runs there are. What is looked for within texts
-- and tags is found by the index of that, counted and put in order, unless it is so common that it is soon met in order.

local pg = require("host.pg")

local json = require("macp.core.json")
local db_door = require("macp.store.db")
local runs_store = require("macp.store.runs")

-- runs_created_at_idx, runs_updated_at_idx; with a status runs_status_idx, with an environment runs_environment_idx
local ORDER = {
  createdAt = { asc = "created_at asc, id asc", desc = "created_at desc, id desc" },
  updatedAt = { asc = "updated_at asc, id asc", desc = "updated_at desc, id desc" },
}

-- runs_search_idx has this very expression: everything that is searched, one thing per line.
local SEARCHED = [[(id::text || E'\n' || coalesce(scenario_ref, '') || E'\n' || coalesce(environment, '') || E'\n'
  || coalesce(source_ref, '') || E'\n' || tags::text || E'\n'
  || coalesce(metadata #>> '{executionRequest,session,policyVersion}', ''))]]

local DEEP = 1000 -- an offset from which on rows are skipped in the index, without reading them

local WINDOW = 8000 -- runs of the order that are looked through one by one
local DENSE = 20 -- one in so many runs: then looking through them in their order finds a page soon

local M = { COUNT_MAX = 10000, FOUND_MAX = 5000 }

-- The conditions that the indexes of orders know.
local function filter_of(tenant, query)
  local filter = db_door.filter(tenant)
  if query.status then filter:add("status = ?", query.status) end
  if query.created_after_ms then filter:add("created_at > ?", pg.ts(query.created_after_ms)) end
  if query.created_before_ms then filter:add("created_at < ?", pg.ts(query.created_before_ms)) end
  if not query.include_sandbox then filter:only("mode <> 'sandbox'") end
  if not query.include_archived then filter:only("archived_at is null") end
  if query.environment then filter:add("environment = ?", query.environment) end
  return filter
end

-- The others.
local function add_texts(filter, query)
  if query.tags then filter:add("tags @> ?::jsonb", query.tags) end
  if query.scenario_ref then
    -- runs_scenario_ref_idx, runs_source_ref_idx
    filter:add("(scenario_ref ilike ? or source_ref = " .. filter:param(query.scenario_ref) .. ")",
      db_door.contains(query.scenario_ref))
  end
  if query.mode_name then -- runtime_sessions_mode_name_idx
    filter:add("id in (select s.run_id from runtime_sessions s where s.tenant = $1 and s.mode_name = ?)",
      query.mode_name)
  end
  if query.search then filter:add(SEARCHED .. " ilike ?", db_door.contains(query.search)) end
  return filter
end

local function searches(query) return query.tags or query.scenario_ref or query.mode_name or query.search end

-- Rows of a page in their order.
local function page_statement(tenant, query)
  local filter = add_texts(filter_of(tenant, query), query)
  local order = ORDER[query.sort_by][query.sort_order]
  local where = filter:text()
  local limit, offset = filter:param(query.limit), filter:param(query.offset)
  local page = " from runs where tenant = $1" .. where .. " order by " .. order .. " limit " .. limit .. " offset "
    .. offset
  if query.offset < DEEP then return { "select " .. runs_store.COLUMNS .. page, filter.params } end
  return { "select " .. runs_store.COLUMNS .. " from runs where tenant = $1 and id = any(array(select id" .. page
    .. ")) order by " .. order, filter.params }
end

-- In the same order, so that the same index is read, and only as far as that.
local function count_statement(tenant, query)
  local filter = filter_of(tenant, query)
  return { "select count(*) as total from (select from runs where tenant = $1" .. filter:text() .. " order by "
    .. ORDER[query.sort_by][query.sort_order] .. " limit " .. M.COUNT_MAX + 1 .. ") as counted", filter.params }
end

-- How many there may be, as the planner believes, and how many runs there are.
local function estimate(db, tenant, query)
  local filter = add_texts(filter_of(tenant, query), query)
  local results, err = db:batch({
    { "explain (format json) select id from runs where tenant = $1" .. filter:text(), filter.params },
    { "select greatest(reltuples, 0)::float8 as n from pg_class where oid = 'runs'::regclass", { n = 0 } },
  })
  if results == nil then return db_door.fail(err) end
  local plan = json.decode(results[1].rows[1]["QUERY PLAN"])
  return { found = plan[1].Plan["Plan Rows"], all = results[2].rows[1].n }
end

-- Finds up to FOUND_MAX runs by the index of what is rarest, counts them and puts them in order.
local function found_statement(tenant, query)
  local filter = add_texts(filter_of(tenant, query), query)
  local where = filter:text()
  local limit, offset = filter:param(query.limit), filter:param(query.offset)
  return { "with found as materialized (select id, created_at, updated_at from runs where tenant = $1" .. where
    .. " limit " .. M.FOUND_MAX + 1 .. ") select (select count(*) from found) as total, "
    .. "array(select id from found order by " .. ORDER[query.sort_by][query.sort_order] .. " limit " .. limit
    .. " offset " .. offset .. ")::text as ids", filter.params }
end

-- Looks through the first WINDOW runs of the order only.
local function window_statement(tenant, query)
  local filter = filter_of(tenant, query)
  local inner = filter:text()
  filter.conditions = {}
  add_texts(filter, query)
  local order = ORDER[query.sort_by][query.sort_order]
  return { "select " .. runs_store.COLUMNS .. " from (select * from runs where tenant = $1" .. inner .. " order by "
    .. order .. " limit " .. WINDOW .. ") w where tenant = $1" .. filter:text() .. " order by " .. order .. " limit "
    .. filter:param(query.limit) .. " offset " .. filter:param(query.offset), filter.params }
end

-- All that are found, put in order: for what is not among the first.
local function sorted_statement(tenant, query)
  local filter = add_texts(filter_of(tenant, query), query)
  local order = ORDER[query.sort_by][query.sort_order]
  return { "with found as materialized (select id, created_at, updated_at from runs where tenant = $1" .. filter:text()
    .. ") select " .. runs_store.COLUMNS .. " from runs where tenant = $1 and id = any(array(select id from found "
    .. "order by " .. order .. " limit " .. filter:param(query.limit) .. " offset " .. filter:param(query.offset)
    .. ")) order by " .. order, filter.params }
end

local function rows_of(db, statement)
  local result, err = db:query(statement[1], statement[2])
  if result == nil then return db_door.fail(err) end
  return result.rows
end

local function rows_by_id(db, tenant, query, ids)
  return rows_of(db, { "select " .. runs_store.COLUMNS .. " from runs where tenant = $1 and id = any($2::uuid[]) "
    .. "order by " .. ORDER[query.sort_by][query.sort_order], { n = 2, tenant, ids } })
end

-- Finding and counting them would most likely be in vain.
local function is_common(estimated) return estimated.found > 2 * M.FOUND_MAX end

-- A page of what many runs match.
local function common_page(db, tenant, query, estimated)
  local deepest = query.offset + query.limit
  if deepest <= WINDOW then
    local rows, err = rows_of(db, window_statement(tenant, query))
    if rows == nil then return nil, err end
    if #rows == query.limit then return { rows = rows, estimate = estimated.found } end
  end
  local is_rare = estimated.found * DENSE < estimated.all and deepest <= WINDOW
  local rows, err = rows_of(db, (is_rare and sorted_statement or page_statement)(tenant, query))
  if rows == nil then return nil, err end
  local is_last = #rows < query.limit and (#rows > 0 or query.offset == 0)
  return { rows = rows, total = is_last and query.offset + #rows or nil, estimate = estimated.found }
end

-- What is looked for within texts and tags. (yields)
local function searched_page(db, tenant, query)
  local estimated, err = estimate(db, tenant, query)
  if estimated == nil then return nil, err end
  if not is_common(estimated) then
    local found, found_err = rows_of(db, found_statement(tenant, query))
    if found == nil then return nil, found_err end
    local total = found[1].total
    if total <= M.FOUND_MAX then
      local rows, rows_err = rows_by_id(db, tenant, query, found[1].ids)
      if rows == nil then return nil, rows_err end
      return { rows = rows, total = total }
    end
    estimated.found = math.max(estimated.found, total)
  end
  return common_page(db, tenant, query, estimated)
end

---One page of runs, and how many there are in all as far as that is quickly counted. (yields)
---@param query { status: string|nil, tags: string|nil, created_after_ms: integer|nil, created_before_ms: integer|nil,
---  include_sandbox: boolean, include_archived: boolean, environment: string|nil, scenario_ref: string|nil,
---  mode_name: string|nil, search: string|nil, sort_by: string, sort_order: string, limit: integer, offset: integer }
---@return { rows: table[], total: integer|nil, estimate: integer|nil }|nil total: nil when there are more than
---  COUNT_MAX, or of what is looked for within texts or tags more than FOUND_MAX: then about `estimate`
---@return table|nil err
function M.page(db, tenant, query)
  if searches(query) then return searched_page(db, tenant, query) end
  local results, err = db:batch({ page_statement(tenant, query), count_statement(tenant, query) })
  if results == nil then return db_door.fail(err) end
  local total = results[2].rows[1].total
  return { rows = results[1].rows, total = total <= M.COUNT_MAX and total or nil }
end

---How many runs there are, all counted. (yields)
---@param query table as for M.page
---@return integer|nil total
---@return table|nil err
function M.count(db, tenant, query)
  local filter = add_texts(filter_of(tenant, query), query)
  local result, err = db:query("select count(*) as total from runs where tenant = $1" .. filter:text(), filter.params)
  if result == nil then return db_door.fail(err) end
  return result.rows[1].total
end

---How PostgreSQL would do a page: the lines of its plans. For specs. (yields)
function M.explain(db, tenant, query)
  if not searches(query) then
    return db_door.explain(db, { page_statement(tenant, query), count_statement(tenant, query) })
  end
  local estimated, err = estimate(db, tenant, query)
  if estimated == nil then return nil, err end
  local statement_of = is_common(estimated) and window_statement or found_statement
  return db_door.explain(db, { statement_of(tenant, query) })
end

return M
