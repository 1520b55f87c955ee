-- Lists of runs. Every order has an index, and so has every filter that can be rare; the counts of a page stop at
-- COUNT_MAX, so that a page costs the same however many runs there are.

local pg = require("host.pg")

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

local M = { COUNT_MAX = 10000 }

local function filter_of(tenant, query)
  local filter = db_door.filter(tenant)
  if query.status then filter:add("status = ?", query.status) end
  if query.tags then filter:add("tags @> ?::jsonb", query.tags) end
  if query.created_after_ms then filter:add("created_at > ?", pg.ts(query.created_after_ms)) end
  if query.created_before_ms then filter:add("created_at < ?", pg.ts(query.created_before_ms)) end
  if not query.include_sandbox then filter:only("mode <> 'sandbox'") end
  if not query.include_archived then filter:only("archived_at is null") end
  if query.environment then filter:add("environment = ?", query.environment) end
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

-- The two statements of a page, as pool:batch takes them.
local function statements(tenant, query)
  local filter = filter_of(tenant, query)
  local where = filter:text()
  local count_params = { n = filter.params.n, unpack(filter.params, 1, filter.params.n) }
  local limit, offset = filter:param(query.limit), filter:param(query.offset)
  local from = " from runs where tenant = $1" .. where .. " order by " .. ORDER[query.sort_by][query.sort_order]
  return {
    { "select " .. runs_store.COLUMNS .. from .. " limit " .. limit .. " offset " .. offset, filter.params },
    -- In the same order, so that the same index is read, and only as far as that.
    { "select count(*) as total from (select" .. from .. " limit " .. M.COUNT_MAX + 1 .. ") as counted", count_params },
  }
end

---One page of runs, and how many there are in all as far as COUNT_MAX. (yields)
---@param query { status: string|nil, tags: string|nil, created_after_ms: integer|nil, created_before_ms: integer|nil,
---  include_sandbox: boolean, include_archived: boolean, environment: string|nil, scenario_ref: string|nil,
---  mode_name: string|nil, search: string|nil, sort_by: string, sort_order: string, limit: integer, offset: integer }
---@return { rows: table[], total: integer|nil }|nil total: nil when there are more than COUNT_MAX
---@return table|nil err
function M.page(db, tenant, query)
  local results, err = db:batch(statements(tenant, query))
  if results == nil then return db_door.fail(err) end
  local total = results[2].rows[1].total
  return { rows = results[1].rows, total = total <= M.COUNT_MAX and total or nil }
end

---How many runs there are, all counted. (yields)
---@param query table as for M.page
---@return integer|nil total
---@return table|nil err
function M.count(db, tenant, query)
  local filter = filter_of(tenant, query)
  local result, err = db:query("select count(*) as total from runs where tenant = $1" .. filter:text(), filter.params)
  if result == nil then return db_door.fail(err) end
  return result.rows[1].total
end

---How PostgreSQL would do a page: the lines of its plans. For specs. (yields)
function M.explain(db, tenant, query)
  return db_door.explain(db, statements(tenant, query))
end

return M
