-- Canonical events of all runs, in the order of their time: a page and how many there are.

local pg = require("host.pg")

local db_door = require("macp.store.db")
local deletions = require("macp.store.deletions")

local M = { COUNTED = 10000 } -- a count beyond this has to be asked for

local function conditions(tenant, query)
  local filter = db_door.filter(tenant)
  filter:only(deletions.NOT_GOING)
  if query.run_id then filter:add("run_id = ?", query.run_id) end
  if query.after_seq > 0 then filter:add("seq > ?", query.after_seq) end
  if query.after_ms then filter:add("ts >= ?", pg.ts(query.after_ms)) end
  if query.before_ms then filter:add("ts < ?", pg.ts(query.before_ms)) end
  if query.types then filter:add("type = any(?)", pg.array(query.types)) end
  if query.scenario_ref then
    filter:add("run_id in (select id from runs where tenant = $1 and (scenario_ref ilike ? or source_ref = "
      .. filter:param(query.scenario_ref) .. "))", db_door.contains(query.scenario_ref))
  end
  return filter
end

---Rows { run_id, seq, ts_us, document } after a position, one more than a page when there are further ones, and the
---total. run_events_canonical_listing_idx, or run_events_canonical_pkey for one run. (yields)
---@param query { run_id: string|nil, after_seq: integer, after_ms: integer|nil, before_ms: integer|nil,
---  types: string[]|nil, scenario_ref: string|nil, limit: integer, exact: boolean,
---  position: { ts_us: string, run_id: string, seq: integer }|nil }
---@return { rows: table[], total: integer }|nil
---@return table|nil err
function M.page(db, tenant, query)
  local filter = conditions(tenant, query)
  local count_where = filter:text()
  local count_params = { n = filter.params.n, unpack(filter.params, 1, filter.params.n) }
  local position = query.position
  if position then
    filter:only("(ts, run_id, seq) > (to_timestamp(0) + " .. filter:param(position.ts_us)
      .. "::bigint * interval '1 microsecond', " .. filter:param(position.run_id) .. "::uuid, "
      .. filter:param(position.seq) .. "::bigint)")
  end
  local limit = filter:param(query.limit + 1)
  local from = " from run_events_canonical where tenant = $1"
  local counted = query.exact and ("select count(*) as total" .. from .. count_where)
    or ("select count(*) as total from (select 1" .. from .. count_where .. " limit " .. M.COUNTED .. ") counted")
  local results, err = db:batch({
    { "select run_id, seq, (extract(epoch from ts) * 1000000)::bigint::text as ts_us, document" .. from .. filter:text()
      .. " order by ts, run_id, seq limit " .. limit, filter.params },
    { counted, count_params },
  })
  if results == nil then return db_door.fail(err) end
  return { rows = results[1].rows, total = results[2].rows[1].total }
end

return M
