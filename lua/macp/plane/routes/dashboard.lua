-- Routes of the dashboard.

local errors = require("macp.core.errors")
local schemas = require("macp.plane.routes.schemas")
local shape = require("macp.plane.routes.shape")
local window = require("macp.plane.dashboard.window")

local check = errors.check

local DATE_TIME = { type = "string", format = "date-time" }

local function query_schema(extra)
  local properties = {
    window = { type = "string", enum = window.NAMES }, range = { type = "string", enum = window.RANGES },
    from = DATE_TIME, to = DATE_TIME, scenarioRef = { type = "string" }, environment = { type = "string" },
  }
  for name, schema in pairs(extra or {}) do properties[name] = schema end
  return { type = "object", properties = properties }
end

local NUMBER, COUNT, TEXT = shape.NUMBER, shape.COUNT, shape.TEXT

local CHART = shape.object("Chart", { labels = shape.TEXTS, data = shape.list(NUMBER) })

local RECENT = shape.object("RecentRun", { id = shape.UUID, status = schemas.STATUS, runtimeKind = TEXT,
  createdAt = DATE_TIME, metadata = shape.ANY_OBJECT },
  { sourceRef = TEXT, startedAt = DATE_TIME, endedAt = DATE_TIME })

local OVERVIEW = shape.object("DashboardOverview", {
  kpis = shape.object(nil, {
    totalRuns = COUNT, activeRuns = COUNT, completedRuns = COUNT, failedRuns = COUNT, cancelledRuns = COUNT,
    suspendedRuns = COUNT, totalSignals = COUNT, totalTokens = NUMBER, totalCostUsd = NUMBER,
    avgDurationMs = shape.nullable(COUNT),
  }),
  recentRuns = shape.list(RECENT),
  runtimeHealth = shape.object(nil, { ok = shape.FLAG, runtimeKind = TEXT, detail = TEXT }),
  charts = { type = "object", additionalProperties = CHART },
})

local AGENT = shape.object("AgentMetrics", { participantId = TEXT, runs = COUNT, signals = COUNT, messages = COUNT },
  { averageConfidence = NUMBER, averageLatencyMs = NUMBER })

local M = {}

---@param plane { dashboard: macp.plane.Dashboard }
function M.routes(plane)
  local dashboard = plane.dashboard

  local function overview(ctx)
    return 200, check(dashboard:overview(ctx.tenant, ctx.query))
  end

  local function agents(ctx)
    return 200, check(dashboard:agents(ctx.tenant, ctx.query))
  end

  return {
    { method = "GET", path = "/dashboard/overview", scope = "runs:read", query = query_schema(), tag = "dashboard",
      returns = { [200] = OVERVIEW }, summary = "What happened in a window of time",
      description = "Counts runs created in the window (24h without one; from and to name another, range is an older "
        .. "word for window) and charts them per minute up to 6h, per hour up to 48h, else per day, in UTC. Signals "
        .. "and decisions count by the minute in which they happened. The answer may be a few seconds old.",
      handler = overview },
    { method = "GET", path = "/dashboard/agents/metrics", scope = "runs:read", tag = "dashboard",
      query = query_schema({ limit = { type = "integer", minimum = 1, maximum = 1000, default = 1000 } }),
      returns = { [200] = { type = "array", items = AGENT } }, summary = "What each participant did",
      description = "Participants that sent something, those in most runs first; over the runs created in the window, "
        .. "without one over all of them. averageLatencyMs is that of the language model calls they told of.",
      handler = agents },
  }
end

return M
