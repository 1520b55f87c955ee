-- The overview as clients see it, made of the figures that the store counted per bucket and label.

local json = require("macp.core.json")
local time = require("macp.core.time")

local M = {}

local function rounded(value, digits)
  local factor = 10 ^ (digits or 0)
  return math.floor(value * factor + 0.5) / factor
end

local function chart() return { labels = json.array({}), data = json.array({}) } end

local function add(into, label, value)
  into.labels[#into.labels + 1], into.data[#into.data + 1] = label, value
end

local CHARTS = { "runVolume", "latency", "latencyP50", "latencyP95", "latencyP99", "throughput", "queueDepth",
  "signalVolume", "errorClasses", "cost", "successRate", "decisionOutcome", "perScenario" }

-- What each kind of figure adds to the totals and the charts.
local PARTS = {
  created = function(figure, label, totals, charts)
    local ended = figure.v2 + figure.v3 + figure.v4
    totals.runs, totals.completed = totals.runs + figure.v1, totals.completed + figure.v2
    totals.failed, totals.cancelled = totals.failed + figure.v3, totals.cancelled + figure.v4
    totals.active = totals.active + figure.v5 + figure.v6 + figure.v7
    totals.suspended = totals.suspended + figure.v7
    totals.tokens, totals.cost = totals.tokens + figure.v8, totals.cost + figure.v9
    add(charts.runVolume, label, figure.v1)
    if figure.v5 > 0 then add(charts.queueDepth, label, figure.v5) end
    add(charts.cost, label, figure.v9)
    add(charts.successRate, label, ended > 0 and 100 * figure.v2 / ended or 0)
  end,
  ended = function(figure, label, totals, charts)
    totals.timed, totals.ms = totals.timed + figure.v1, totals.ms + figure.v2
    add(charts.latency, label, rounded(figure.v2 / figure.v1))
    add(charts.latencyP50, label, rounded(figure.v3))
    add(charts.latencyP95, label, rounded(figure.v4))
    add(charts.latencyP99, label, rounded(figure.v5))
  end,
  activity = function(figure, label, totals, charts)
    totals.signals = totals.signals + figure.v1
    if figure.v1 > 0 then add(charts.signalVolume, label, figure.v1) end
    if figure.v2 > 0 then add(charts.decisionOutcome, label, figure.v3) end
  end,
  done = function(figure, label, _, charts) add(charts.throughput, label, figure.v1) end,
  error = function(figure, _, _, charts) add(charts.errorClasses, figure.label, figure.v1) end,
  scenario = function(figure, _, _, charts) add(charts.perScenario, figure.label, figure.v1) end,
}

local function kpis_of(totals)
  return {
    totalRuns = totals.runs, activeRuns = totals.active, completedRuns = totals.completed, failedRuns = totals.failed,
    cancelledRuns = totals.cancelled, suspendedRuns = totals.suspended, totalSignals = totals.signals,
    totalTokens = totals.tokens, totalCostUsd = rounded(totals.cost, 2),
    avgDurationMs = totals.timed > 0 and rounded(totals.ms / totals.timed) or json.null,
  }
end

local function recent_of(row)
  return {
    id = row.id, status = row.status, runtimeKind = row.runtime_kind, sourceRef = row.source_ref,
    startedAt = row.started_at and time.iso(row.started_at), endedAt = row.ended_at and time.iso(row.ended_at),
    createdAt = time.iso(row.created_at), metadata = json.raw(row.metadata),
  }
end

---The body of GET /dashboard/overview, except for the runtime's health.
---@param found { figures: table[], recent: table[] } of store/dashboard.lua
---@param redactor macp.plane.Redactor|nil
---@return { kpis: table, charts: table, recentRuns: table[] }
function M.of(found, redactor)
  local charts = {}
  for _, name in ipairs(CHARTS) do charts[name] = chart() end
  local totals = { runs = 0, active = 0, completed = 0, failed = 0, cancelled = 0, suspended = 0, signals = 0,
    tokens = 0, cost = 0, timed = 0, ms = 0 }
  for _, figure in ipairs(found.figures) do
    if redactor and figure.label then figure.label = redactor:text(figure.label) end
    PARTS[figure.part](figure, figure.bucket and time.iso(figure.bucket), totals, charts)
  end
  local recent = json.array({})
  for i, row in ipairs(found.recent) do
    if redactor then row.source_ref, row.metadata = redactor:any(row.source_ref), redactor:json(row.metadata) end
    recent[i] = recent_of(row)
  end
  return { kpis = kpis_of(totals), charts = charts, recentRuns = recent }
end

return M
