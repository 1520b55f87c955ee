-- Routes for operators: coordination modes, the circuit breaker, tasks.

local errors = require("macp.core.errors")
local json = require("macp.core.json")
local time = require("macp.core.time")

local WINDOWS = { ["15m"] = 900000, ["1h"] = 3600000, ["6h"] = 21600000, ["24h"] = 86400000, ["7d"] = 604800000,
  ["30d"] = 2592000000 }

local M = {}

local ROLLBACK_BODY = {
  title = "RollbackRequest", type = "object", required = { "revision" }, additionalProperties = false,
  properties = { revision = { type = "string", minLength = 1 } },
}

---@param plane { registry: table|nil, client: macp.plane.RuntimeClient, supervisor: macp.Supervisor }
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

  local object = { type = "object" }
  return {
    { method = "GET", path = "/admin/modes", scope = "admin:read", tag = "admin",
      returns = { [200] = object }, handler = modes,
      summary = "Revisions of the coordination modes",
      description = "What serves, what served before, who uses it, why the last candidate was refused." },
    { method = "POST", path = "/admin/modes/:mode/rollback", scope = "admin:write", body = ROLLBACK_BODY,
      audit = "mode.reloaded", returns = { [200] = object }, tag = "admin",
      summary = "Serve an archived revision of a mode again", handler = rollback },
    { method = "POST", path = "/admin/circuit-breaker/reset", scope = "admin:write", audit = "circuit_breaker.reset",
      returns = { [200] = object }, tag = "admin", summary = "Close the circuit breaker", handler = reset },
    { method = "GET", path = "/admin/circuit-breaker/history", scope = "admin:read", returns = { [200] = object },
      query = { type = "object", properties = { window = { type = "string" }, since = { type = "string" } } },
      tag = "admin", summary = "What the circuit breaker did", handler = history },
    { method = "GET", path = "/admin/tasks", scope = "admin:read", returns = { [200] = object }, tag = "admin",
      summary = "Long-running tasks of this process", handler = tasks },
  }
end

return M
