-- Pieces of statements that look for events of all runs: conditions, types, positions.

local pg = require("host.pg")

local deletions = require("macp.store.deletions")

local BRANCHES = 16 -- more types than that are looked for together

local M = { ORDER = " order by ts, run_id, seq" }

---Adds the conditions of a query other than the type and the scenario.
function M.add_conditions(filter, query, is_any_going)
  if is_any_going then filter:only(deletions.NOT_GOING) end
  if query.run_id then filter:add("run_id = ?", query.run_id) end
  if query.after_seq > 0 then filter:add("seq > ?", query.after_seq) end
  if query.after_ms then filter:add("ts >= ?", pg.ts(query.after_ms)) end
  if query.before_ms then filter:add("ts < ?", pg.ts(query.before_ms)) end
end

---The time of a position.
---@param position { ts_us: string }
function M.position_ts(filter, position)
  return "(to_timestamp(0) + " .. filter:param(position.ts_us) .. "::bigint * interval '1 microsecond')"
end

---Adds what comes after a position.
---@param position { ts_us: string, run_id: string, seq: integer }|nil
function M.add_position(filter, position)
  if position == nil then return end
  local ts = M.position_ts(filter, position)
  filter:only("ts >= " .. ts) -- what the next condition implies, and an index understands
  filter:only("(ts, run_id, seq) > (" .. ts .. ", " .. filter:param(position.run_id) .. "::uuid, "
    .. filter:param(position.seq) .. "::bigint)")
end

---The condition that an event has one of the types; nothing without types.
function M.of_types(filter, types)
  return types and " and type = any(" .. filter:param(pg.array(types)) .. ")" or ""
end

---Whether each type is looked for by itself, in the order of time.
function M.is_branched(types) return types == nil or #types <= BRANCHES end

local function unique(types)
  local known, list = {}, {}
  for _, name in ipairs(types) do
    if not known[name] then
      known[name] = true
      list[#list + 1] = name
    end
  end
  return list
end

---The condition of each branch: one per type, by its own end of run_events_canonical_type_idx; without types everything,
---by run_events_canonical_listing_idx.
---@return string[]
function M.branches_of(filter, types)
  if types == nil then return { "" } end
  if not M.is_branched(types) then return { M.of_types(filter, types) } end
  local list = {}
  for i, name in ipairs(unique(types)) do list[i] = " and type = " .. filter:param(name) end
  return list
end

---The events of all branches, each of them ended by `tail`.
function M.union(columns, where, branches, tail)
  local list = {}
  for i, branch in ipairs(branches) do
    list[i] = "(select " .. columns .. " from run_events_canonical where tenant = $1" .. branch .. where .. tail .. ")"
  end
  return table.concat(list, " union all ")
end

return M
