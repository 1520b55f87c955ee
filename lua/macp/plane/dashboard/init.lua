-- The dashboard: what happened in a window of time, and what each participant did. Answers are kept for a few seconds;
-- none of them reads events or waits for the runtime.

local sys = require("host.sys")

local json = require("macp.core.json")
local shared_answer = require("macp.core.shared_answer")
local overview = require("macp.plane.dashboard.overview")
local window = require("macp.plane.dashboard.window")

local dashboard_store = require("macp.store.dashboard")

local DEFAULT_WINDOW = "24h"

---@class macp.plane.Dashboard
local Dashboard = {}
Dashboard.__index = Dashboard

local M = {}

---@param deps { db: table, health: macp.plane.Health, keep_ms: integer,
---  redactor: macp.plane.Redactor|false|nil }
function M.new(deps)
  return setmetatable({ db = deps.db, health = deps.health, redactor = deps.redactor or nil,
    answers = shared_answer.new(deps.keep_ms) }, Dashboard)
end

-- The question as text: same text, same answer.
local function key_of(kind, tenant, query)
  local parts = { kind, tenant }
  for i, name in ipairs({ "window", "range", "from", "to", "environment", "scenarioRef", "limit" }) do
    parts[i + 2] = query[name] and (name .. "=" .. query[name]) or ""
  end
  return table.concat(parts, "\0")
end

-- The store's form of a query.
local function asked(query, default)
  local bounds, err = window.of(query, default, sys.now_ms())
  if bounds == nil then return nil, err end
  bounds.environment, bounds.scenario_ref, bounds.limit = query.environment, query.scenarioRef, query.limit
  return bounds
end

local function health_of(runtime)
  return { ok = runtime.ok, runtimeKind = runtime.runtimeKind, detail = runtime.detail }
end

---The body of GET /dashboard/overview. (yields)
---@param query table checked query parameters
---@return table|nil body
---@return table|nil err
function Dashboard:overview(tenant, query)
  local bounds, err = asked(query, DEFAULT_WINDOW)
  if bounds == nil then return nil, err end
  local made, made_err = self.answers:get(key_of("overview", tenant, query), function()
    local found, find_err = dashboard_store.overview(self.db, tenant, bounds)
    if found == nil then return nil, find_err end
    return overview.of(found, self.redactor)
  end)
  if made == nil then return nil, made_err end
  return { kpis = made.kpis, recentRuns = made.recentRuns, charts = made.charts,
    runtimeHealth = health_of(self.health.runtime) }
end

---The body of GET /dashboard/agents/metrics. (yields)
---@param query table checked query parameters; without a window all time counts
---@return table[]|nil body
---@return table|nil err
function Dashboard:agents(tenant, query)
  local bounds, err = asked(query, nil)
  if bounds == nil then return nil, err end
  return self.answers:get(key_of("agents", tenant, query), function()
    local rows, find_err = dashboard_store.agents(self.db, tenant, bounds)
    if rows == nil then return nil, find_err end
    local list = json.array({})
    for i, row in ipairs(rows) do
      list[i] = { participantId = row.participant_id, runs = row.runs, signals = row.signals, messages = row.messages,
        averageConfidence = row.confidence, averageLatencyMs = row.latency_ms }
    end
    return list
  end)
end

return M
