-- Routes for operators: coordination modes, the circuit breaker, projections, tasks.

local errors = require("macp.core.errors")
local json = require("macp.core.json")
local time = require("macp.core.time")
local projection = require("macp.plane.projection.state")
local schemas = require("macp.plane.routes.schemas")
local shape = require("macp.plane.routes.shape")

local WINDOWS = { ["15m"] = 900000, ["1h"] = 3600000, ["6h"] = 21600000, ["24h"] = 86400000, ["7d"] = 604800000,
  ["30d"] = 2592000000 }

local TEXT, FLAG, COUNT, MS = shape.TEXT, shape.FLAG, shape.COUNT, shape.EPOCH_MS

local PROBLEM = shape.object("ModeProblem", {}, { path = TEXT, line = COUNT, key = TEXT, text = TEXT, rule = TEXT,
  severity = TEXT })

local FOLDER = shape.object("ModeFolder", { folder = TEXT, path = TEXT, origin = TEXT, serving = FLAG }, {
  id = TEXT, version = TEXT, title = TEXT, revision = TEXT, presentation = TEXT, previous = TEXT, pins = COUNT,
  loaded_at_ms = MS, faulty = shape.ANY_OBJECT, template = FLAG,
  candidate = shape.object(nil, { errors = shape.list(PROBLEM) }, { revision = TEXT, at_ms = MS }),
})

local MODES = shape.object("ModeRevisions", {
  modes = shape.list(FOLDER),
  retired = shape.list(shape.object("RetiredMode", { id = TEXT, version = TEXT, revision = TEXT, pins = COUNT })),
  registered = shape.list(shape.object("RegisteredMode", { id = TEXT, source = TEXT, covered = FLAG },
    { standard = FLAG, version = TEXT, revision = TEXT, pins = COUNT })),
})

local TASKS = shape.object("TaskList", {
  name = TEXT, live = COUNT, draining = FLAG,
  tasks = shape.list(shape.object("TaskStatus", { name = TEXT, state = TEXT, starts = COUNT },
    { started_at_ms = MS, last_error = TEXT, failed_at_ms = MS })),
  failures = shape.list(shape.object("TaskFailure", { name = TEXT }, { error = TEXT, at_ms = MS })),
})

local PROJECTIONS = shape.object("Projections", {
  storedVersion = { type = "integer", description = "What projections are stored as now." },
  rebuild = shape.object("ProjectionRebuild", { running = FLAG, total = COUNT, done = COUNT, failed = COUNT }),
})

local BY_STATUS = shape.object(nil, { completed = COUNT, failed = COUNT, cancelled = COUNT })

local RETENTION = shape.object("Retention", {
  enabled = FLAG, runDays = BY_STATUS, days = COUNT,
  wouldDelete = shape.object("RetentionForecast", {
    runs = BY_STATUS, events = COUNT, auditEntries = COUNT, deliveries = COUNT,
    oldestRunEndedAt = shape.nullable(shape.DATE),
    isExact = { type = "boolean", description = "False: counting stopped, there is more." },
  }),
  lastPass = { anyOf = json.array({ { type = "null" }, shape.object("RetentionPass", { at = shape.DATE, runs = COUNT,
    events = COUNT, auditEntries = COUNT, deliveries = COUNT, durationMs = COUNT }) }),
    description = "By this process since it was started." },
})

local ROLLED_BACK = shape.object("RolledBack", { mode = TEXT, revision = TEXT, status = TEXT })

local M = {}

local ROLLBACK_BODY = {
  title = "RollbackRequest", type = "object", required = { "revision" }, additionalProperties = false,
  properties = { revision = { type = "string", minLength = 1 } },
}

---@param plane { registry: table|nil, rebuild: macp.plane.Rebuilder, client: macp.plane.RuntimeClient,
---  retention: macp.plane.Retention, supervisor: macp.Supervisor }
function M.routes(plane)
  local function modes()
    return 200, plane.registry:status()
  end

  local function rollback(ctx, body)
    local rev, err = plane.registry:rollback(ctx.params.mode, body.revision)
    if not rev then
      if errors.is_typed(err) then error(err, 0) end
      local message = type(err) == "table" and (err.message or err.code) or tostring(err)
      error(errors.new("VALIDATION_ERROR", type(err) == "table" and err.problems and { problems = err.problems } or nil,
        message), 0)
    end
    ctx.resource_id = ctx.params.mode
    return 200, { mode = ctx.params.mode, revision = body.revision, status = "ok" }
  end

  local function reset()
    plane.client.breaker:reset()
    return 200, { status = "ok", state = plane.client.breaker:state() }
  end

  local function history(ctx)
    local query = ctx.query
    local since = query.since and time.parse_iso(query.since)
    if since == nil and WINDOWS[query.window] then since = time.now_ms() - WINDOWS[query.window] end
    local list = json.array({})
    for _, change in ipairs(plane.client.breaker:changes()) do
      if since == nil or change.entered_at_ms >= since then
        list[#list + 1] = { state = change.state, enteredAt = time.iso(change.entered_at_ms), reason = change.reason }
      end
    end
    return 200, { state = plane.client.breaker:state(), history = list }
  end

  local function tasks()
    return 200, plane.supervisor:status()
  end

  local function projections()
    local progress = plane.rebuild:status()
    return 200, { storedVersion = projection.STORED_VERSION, rebuild = { running = progress.running,
      total = progress.total, done = progress.done, failed = progress.failed } }
  end

  local function retention()
    local keeper = plane.retention
    local due, last = errors.check(keeper:forecast()), keeper.last
    return 200, { enabled = keeper.enabled, runDays = keeper:days(), days = keeper.ttl_days,
      wouldDelete = { runs = due.runs, events = due.events, auditEntries = due.audit, deliveries = due.deliveries,
        oldestRunEndedAt = due.oldest_ms and time.iso(due.oldest_ms) or json.null, isExact = due.is_exact },
      lastPass = last and { at = time.iso(last.at_ms), runs = last.counts.runs, events = last.counts.events,
        auditEntries = last.counts.audit, deliveries = last.counts.deliveries, durationMs = last.counts.ms }
        or json.null }
  end

  return {
    { method = "GET", path = "/admin/retention", scope = "admin:read", tag = "admin",
      returns = { [200] = RETENTION }, handler = retention,
      summary = "What retention would delete now",
      description = "Nothing is deleted by asking, and retention need not be enabled. Figures are of all tenants." },
    { method = "GET", path = "/admin/modes", scope = "admin:read", tag = "admin",
      returns = { [200] = MODES }, handler = modes,
      summary = "Revisions of the coordination modes",
      description = "What serves, what served before, who uses it, why the last candidate was refused." },
    { method = "POST", path = "/admin/modes/:mode/rollback", scope = "admin:write", body = ROLLBACK_BODY,
      audit = "mode.reloaded", returns = { [200] = ROLLED_BACK }, tag = "admin",
      summary = "Serve an archived revision of a mode again", handler = rollback },
    { method = "POST", path = "/admin/circuit-breaker/reset", scope = "admin:write", audit = "circuit_breaker.reset",
      returns = { [200] = schemas.Breaker }, tag = "admin", summary = "Close the circuit breaker", handler = reset },
    { method = "GET", path = "/admin/circuit-breaker/history", scope = "admin:read",
      returns = { [200] = schemas.BreakerHistory },
      query = { type = "object", properties = { window = { type = "string" }, since = { type = "string" } } },
      tag = "admin", summary = "What the circuit breaker did", handler = history },
    { method = "GET", path = "/admin/projections", scope = "admin:read", tag = "admin",
      returns = { [200] = PROJECTIONS }, handler = projections,
      summary = "How far projections are rebuilt",
      description = "Finished runs whose projection was stored under other rules are folded again after a start, by "
        .. "one process at a time: this one's part of it." },
    { method = "GET", path = "/admin/tasks", scope = "admin:read", returns = { [200] = TASKS }, tag = "admin",
      summary = "Long-running tasks of this process", handler = tasks },
  }
end

return M
