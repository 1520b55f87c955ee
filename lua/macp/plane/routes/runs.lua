-- Routes of runs: create, check, list, read, cancel.

local errors = require("macp.core.errors")
local json = require("macp.core.json")
local execution_request = require("macp.plane.execution_request")
local idempotency_key = require("macp.plane.idempotency_key")
local schemas = require("macp.plane.routes.schemas")

local check = errors.check

local LIST_QUERY = {
  type = "object",
  properties = {
    status = schemas.STATUS, tags = { type = "string" },
    createdAfter = { type = "string", format = "date-time" }, createdBefore = { type = "string", format = "date-time" },
    limit = { type = "integer", minimum = 1, maximum = 200, default = 50 },
    offset = { type = "integer", minimum = 0, default = 0 },
    sortBy = { type = "string", enum = { "createdAt", "updatedAt" }, default = "createdAt" },
    sortOrder = { type = "string", enum = { "asc", "desc" }, default = "desc" },
    includeSandbox = { type = "string" }, includeArchived = { type = "string" }, environment = { type = "string" },
    scenarioRef = { type = "string" }, modeName = { type = "string" }, search = { type = "string" },
    exactTotal = { type = "boolean", default = false },
  },
}

local CANCEL_BODY = {
  title = "CancelRequest", type = "object", additionalProperties = false, properties = { reason = { type = "string" } },
}

local CANCEL_REFUSALS = { 409, 502, 501, 503, 504 } -- of the runtime, and of the callback

local M = {}

---@param plane { runs: macp.plane.Runs, reader: macp.plane.Reader, arrivals: macp.plane.Arrivals,
---  audit: macp.plane.Audit, opens_sessions: table|nil }
function M.routes(plane)
  local runs, reader, arrivals = plane.runs, plane.reader, plane.arrivals
  local request = plane.opens_sessions and execution_request.LAUNCHED or execution_request.OBSERVED

  local function create(ctx, body)
    return idempotency_key.create(plane, ctx, body)
  end

  local function validate(_, body)
    return 200, check(runs:validate(body))
  end

  local function list(ctx)
    return 200, check(runs:list(ctx.tenant, ctx.query))
  end

  local function get(ctx)
    local tenant, run_id = ctx.tenant, ctx.params.id
    return 200, check(arrivals:hold(tenant, run_id, function() return runs:get(tenant, run_id) end))
  end

  local function state(ctx)
    return 200, (check(arrivals:hold(ctx.tenant, ctx.params.id, function()
      return reader:state(ctx.tenant, ctx.params.id)
    end)))
  end

  local function cancel(ctx, body)
    ctx.resource_id = ctx.params.id
    local run, had_ended = runs:cancel(ctx.tenant, ctx.params.id,
      { reason = json.absent(body.reason), force = ctx.query.force == "true" })
    ctx.audited = had_ended == true -- nobody cancelled it: there is nothing to record
    return 200, (check(run, had_ended))
  end

  return {
    { method = "POST", path = "/runs", scope = "runs:write", body = request, audit = "run.created", keyed = false,
      headers = idempotency_key.HEADERS,
      returns = { [202] = schemas.Accepted, [200] = schemas.Accepted }, refuses = { 409 }, tag = "runs",
      summary = "Create a run",
      description = "Announces a session: the run waits until the runtime knows it, then observes it. With the same "
        .. "idempotency key and body the first answer is given again. Where the setting LAUNCHER_ENABLED is on, a "
        .. "request with a kickoff (or another field of an ExecutionRequest) has its session opened by the launcher.",
      handler = create },
    { method = "POST", path = "/runs/validate", scope = "runs:read",
      body = execution_request.checked(request), returns = { [200] = schemas.Verdict }, tag = "runs",
      summary = "Check a run descriptor",
      description = "Would it launch? Asks the runtime and changes nothing.", handler = validate },
    { method = "GET", path = "/runs", scope = "runs:read", query = LIST_QUERY,
      returns = { [200] = schemas.RunList },
      tag = "runs", summary = "List runs",
      description = "total counts all runs of the filter. With search, tags, modeName or scenarioRef and more than "
        .. "5000 of them it is an estimate (totalIsEstimate) until they are counted; exactTotal=true waits for that.",
      handler = list },
    { method = "GET", path = "/runs/:id", scope = "runs:read", etag = true, tag = "runs",
      returns = { [200] = schemas.Run }, summary = "One run", handler = get },
    { method = "GET", path = "/runs/:id/state", scope = "runs:read", etag = true, tag = "runs",
      returns = { [200] = schemas.Projection }, summary = "The projection of a run",
      description = "What the run's events add up to. A live run answers from memory, never ahead of what is stored.",
      handler = state },
    { method = "POST", path = "/runs/:id/cancel", scope = "runs:write", body = CANCEL_BODY, audit = "run.cancelled",
      query = { type = "object", properties = { force = { type = "string" } } },
      returns = { [200] = schemas.Run }, tag = "runs", refuses = CANCEL_REFUSALS, summary = "Cancel a run",
      description = "Asks the runtime when cancellation was delegated (force=true closes the run even if it refuses), "
        .. "else calls the run's cancelCallback. A run that was discovered has neither: the runtime of this process "
        .. "ends its session, another one does if the session's policy allows it.", handler = cancel },
  }
end

return M
