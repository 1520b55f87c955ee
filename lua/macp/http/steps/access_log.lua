-- One log line and two metrics per finished request.

local log = require("host.log")
local sys = require("host.sys")

local BUCKETS = { 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10 }
local LABELS = { "method", "path", "status_code" }

local M = {}

-- Names of parameters with which callers try to authenticate, in vain: what they give is not logged.
local CREDENTIALS = { "token", "key", "secret", "auth", "password", "bearer" }

local function masked(name, value)
  local lower = name:lower():gsub("^pagetoken$", "")
  for _, word in ipairs(CREDENTIALS) do
    if lower:find(word, 1, true) then return name .. "=********" end
  end
  return name .. "=" .. value
end

-- Streams may carry credentials in their query: only their path is logged.
local function logged_path(ctx)
  local req = ctx.req
  if req.query == nil or (ctx.route and ctx.route.raw) then return req.path end
  return req.path .. "?" .. req.query:gsub("([^&=]+)=([^&]*)", masked)
end

-- actor and tenant: of callers with a key, by its name.
local function write_line(level, ctx, status, duration_ms)
  local actor = ctx.actor
  local known = actor.type ~= "anonymous"
  log[level]("http.request", {
    actor = known and actor.id or nil, tenant = known and actor.tenant or nil,
    method = ctx.req.method, path = logged_path(ctx), statusCode = status, requestId = ctx.request_id,
    durationMs = math.floor(duration_ms * 1000 + 0.5) / 1000,
  })
end

---@param metrics macp.Metrics
---@return fun(ctx: macp.Context, status: integer) to be called when the reply is on its way
function M.new(metrics)
  local requests = metrics:counter("http_requests_total", "Requests answered.", LABELS)
  local durations = metrics:histogram("http_request_duration_seconds", "Time from request to reply.", LABELS, BUCKETS)
  local unmatched = { path = "unmatched", series = {} }

  -- Series by method and status, kept on the route so that no label is looked up twice.
  local function series_of(route, method, status)
    local by_method = route.series[method]
    if by_method == nil then
      by_method = {}
      route.series[method] = by_method
    end
    local found = by_method[status]
    if found == nil then
      found = {
        requests:labels(method, route.path, status), durations:labels(method, route.path, status),
      }
      by_method[status] = found
    end
    return found
  end

  return function(ctx, status)
    local duration_ms = sys.mono_ms() - ctx.started_ms
    local route = ctx.route
    local series = series_of(route or unmatched, ctx.req.method, status)
    series[1]:inc()
    series[2]:observe(duration_ms / 1000)
    local level = route and route.quiet and "debug" or "info"
    if log.enabled(level) then write_line(level, ctx, status, duration_ms) end
  end
end

return M
