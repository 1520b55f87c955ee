-- Two runs side by side.

local json = require("macp.core.json")
local tables = require("macp.core.tables")
local run_facts = require("macp.plane.run_facts")
local run_metrics = require("macp.plane.run_metrics")

local M = {}

-- One side: { row, state, duration_ms }. (yields)
local function side(deps, tenant, run_id)
  local row, err = deps.runs:find(tenant, run_id)
  if row == nil then return nil, err end
  local text, state_err = deps.reader:state(tenant, run_id)
  if text == nil then return nil, state_err end
  local counters, counters_err = run_facts.counters(deps, tenant, run_id)
  if counters == nil then return nil, counters_err end
  local state, decode_err = json.decode(text)
  if state == nil then return nil, decode_err end
  return { row = row, state = state, duration_ms = counters and run_metrics.duration_ms(counters) or nil }
end

local function told(found)
  return { runId = found.row.id, status = found.row.status, modeName = found.state.run.modeName,
    durationMs = found.duration_ms }
end

local function names(list, field)
  local set = {}
  for _, item in ipairs(list) do
    if item[field] then set[item[field]] = true end
  end
  return set
end

-- What only the right side has, what only the left side has, what both have; sorted.
local function diff(left, right)
  local added, removed, common = json.array({}), json.array({}), json.array({})
  for _, name in ipairs(tables.sorted_keys(right)) do
    local list = left[name] and common or added
    list[#list + 1] = name
  end
  for _, name in ipairs(tables.sorted_keys(left)) do
    if not right[name] then removed[#removed + 1] = name end
  end
  return added, removed, common
end

local function delta(left, right) return left and right and right - left or nil end

---Compares two runs. (yields)
---@param deps { runs: macp.plane.Runs, reader: macp.plane.Reader, owner: table, db: table }
---@return table|nil comparison
---@return macp.Error|nil err RUN_NOT_FOUND, of the left one first
function M.compare(deps, tenant, left_id, right_id)
  local left, err = side(deps, tenant, left_id)
  if left == nil then return nil, err end
  local right, right_err = side(deps, tenant, right_id)
  if right == nil then return nil, right_err end
  local added, removed, common = diff(names(left.state.participants, "participantId"),
    names(right.state.participants, "participantId"))
  local signals_added, signals_removed = diff(names(left.state.signals.signals, "name"),
    names(right.state.signals.signals, "name"))
  local decided, other = left.state.decision.current or {}, right.state.decision.current or {}
  return {
    left = told(left), right = told(right), statusMatch = left.row.status == right.row.status,
    durationDeltaMs = delta(left.duration_ms, right.duration_ms),
    confidenceDelta = delta(decided.confidence, other.confidence),
    participantsDiff = { added = added, removed = removed, common = common },
    signalsDiff = { added = signals_added, removed = signals_removed },
  }
end

return M
