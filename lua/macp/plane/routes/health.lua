-- Routes for those who watch the process.

local schemas = require("macp.plane.routes.schemas")
local shape = require("macp.plane.routes.shape")

local ALIVE = shape.object("Liveness", { ok = shape.FLAG, service = shape.TEXT })

local M = {}

local TEXT = { ["content-type"] = "text/plain; version=0.0.4; charset=utf-8" }

---@param plane { health: macp.plane.Health, registry_metrics: macp.Metrics }
function M.routes(plane)
  local health = plane.health

  local function healthz()
    return 200, health.healthz
  end

  local function readyz()
    local ok, body = health:ready()
    return ok and 200 or 503, body
  end

  local function metrics()
    return 200, plane.registry_metrics:render(), TEXT
  end

  return {
    { method = "GET", path = "/healthz", public = true, rate = "none", quiet = true, tag = "health",
      returns = { [200] = ALIVE }, summary = "Is the process alive?", handler = healthz },
    { method = "GET", path = "/readyz", public = true, rate = "none", quiet = true, tag = "health",
      returns = { [200] = schemas.Readiness, [503] = schemas.Readiness },
      summary = "Can it do its work?", handler = readyz },
    { method = "GET", path = "/metrics", public = true, rate = "none", quiet = true, tag = "health",
      returns = { [200] = { content = { ["text/plain"] = { type = "string" } } } },
      summary = "Prometheus metrics", handler = metrics },
  }
end

return M
