-- The HTTP pipeline: route tables in, one handler for the host's server out. The steps run in a fixed order for every
-- route: request id, CORS, router, trace, authenticate, limit, parse and validate, handler, audit, entity tag, compression,
-- reply, access log.
--
-- route = { method=, path="/runs/:id", summary=, description=, tag=, scope="runs:read" or public=true,
--   params=schema, query=schema, body=schema, headers=schema (only described), rate="default"|"none",
--   returns={ [200] = schema, name or { content = { [media type] = schema } } }, refuses={ 409 } (statuses of the handler),
--   audit="run.created", raw=true (the handler writes ctx.res itself), quiet=true (access log at debug),
--   hidden=true (not in the document), etag=true (replies are tagged, If-None-Match is asked),
--   constant=true (its document hardly ever changes: its compressed form is kept),
--   keyed=false (not by steps/keyed.lua, which keeps the replies of audited POSTs under their Idempotency-Key),
--   handler=function(ctx, body) -> status, value, headers }
-- value: a table becomes JSON, a string (or host.bytes) is sent as it is, nil is an empty body. Header names in lower
-- case. Handlers raise typed errors.

local log = require("host.log")
local sys = require("host.sys")
local task = require("host.task")

local errors = require("macp.core.errors")
local json = require("macp.core.json")
local Context = require("macp.http.context")
local access_log = require("macp.http.steps.access_log")
local audit = require("macp.http.steps.audit")
local authenticate = require("macp.http.steps.authenticate")
local compress = require("macp.http.steps.compress")
local cors = require("macp.http.steps.cors")
local docs_page = require("macp.http.docs_page")
local etag = require("macp.http.steps.etag")
local keyed = require("macp.http.steps.keyed")
local limit = require("macp.http.steps.limit")
local openapi = require("macp.http.openapi")
local parse = require("macp.http.steps.parse")
local problem = require("macp.http.problem")
local request_id = require("macp.http.steps.request_id")
local router = require("macp.http.router")
local sse = require("macp.http.sse")
local trace = require("macp.http.steps.trace")

local CLIENT_GONE = 499 -- only for log and metrics: nobody is left to read it
local JSON = problem.CONTENT_TYPE

---@class macp.App
local App = {}
App.__index = App

local M = {}

---@param opts { title: string|nil, version: string|nil, config: table|nil, metrics: macp.Metrics,
---  auth: macp.AuthChain|nil, limiter: table|false|nil, audit: function|nil, tracer: macp.Tracer|nil }
--- config: compression, cors_origin, throttle_limit, throttle_ttl_ms, stream_max_per_caller, stream_max_per_run;
--- limiter { limit, window_ms } replaces the throttle's two, false: none;
--- audit(ctx, action, value) records an entry (may yield)
---@return macp.App
function M.new(opts)
  local config = opts.config or {}
  local metrics = assert(opts.metrics, "an application needs metrics")
  local limits = opts.limiter
  if limits == nil and config.throttle_limit then
    limits = { limit = config.throttle_limit, window_ms = config.throttle_ttl_ms }
  end
  local begin, finish = trace.new(opts.tracer)
  return setmetatable({
    begin = begin, finish = finish,
    title = opts.title or "macp", version = opts.version or sys.version, auth = opts.auth, limits = limits,
    refused = limit.of_refused(limits),
    audit = opts.audit, replies = opts.replies, router = router.new(), routes = {}, cors = cors.new(config.cors_origin),
    finished = access_log.new(metrics), compresses = config.compression == "gzip",
    streams = sse.new(metrics, { per_caller = config.stream_max_per_caller, per_subject = config.stream_max_per_run }),
  }, App)
end

local function check_route(route)
  local name = tostring(route.method) .. " " .. tostring(route.path)
  local function need(condition, what)
    if not condition then error("route " .. name .. " needs " .. what, 0) end
  end
  need(route.method and route.path, "method and path")
  need(type(route.handler) == "function", "a handler")
  need(route.public or route.scope, "a scope, or public = true")
  need(route.summary, "a summary")
  need(type(route.returns) == "table" and next(route.returns) ~= nil, "returns")
end

local function compile(app, route)
  local steps = {}
  for _, step in ipairs({ authenticate.compile, limit.compile, parse.compile }) do
    steps[#steps + 1] = step(route, app)
  end
  route.steps, route.series, route.record = steps, {}, audit.compile(route, app)
  route.tagged, route.once = etag.compile(route), keyed.compile(route, app)
end

---Adds routes. A wrong or duplicate one raises.
---@param routes table[]
function App:mount(routes)
  for _, route in ipairs(routes) do
    check_route(route)
    compile(self, route)
    self.router:add(route)
    self.routes[#self.routes + 1] = route
  end
end

---Adds GET /docs-json, the OpenAPI document of all routes, and GET /docs, the page that shows it.
---@param more (fun(): table[])|nil gives further routes, without handlers, that change while the program runs
---@return fun() changed to be called when what the document describes has changed: the next reader gets a new one
function App:mount_docs(more)
  local text
  self.more_docs = more
  self:mount({ {
    method = "GET", path = "/docs-json", public = true, rate = "none", tag = "docs", etag = true, constant = true,
    summary = "This document", description = "The OpenAPI 3.1 description of this interface.",
    returns = { [200] = { type = "object" } },
    handler = function()
      text = text or json.canonical(self:openapi())
      return 200, text
    end,
  } })
  self:mount(docs_page.routes())
  return function() text = nil end
end

---The OpenAPI 3.1 document of the mounted routes.
function App:openapi()
  local shown = {}
  for _, route in ipairs(self.routes) do
    if not route.hidden then shown[#shown + 1] = route end
  end
  for _, route in ipairs(self.more_docs and self.more_docs() or {}) do shown[#shown + 1] = route end
  return openapi.document(shown, { title = self.title, version = self.version })
end

local function send(ctx, status, body, extra, in_chunks)
  local headers = { ["content-type"] = JSON }
  if body == nil then headers["content-type"] = nil end
  ctx:add_headers(headers, status)
  if extra then
    for name, value in pairs(extra) do headers[name] = value end
  end
  local res = ctx.res
  if not in_chunks then
    res:send(status, headers, body)
  elseif res:start(status, headers) and res:write(body) then
    res:finish()
  end
end

-- Handler and audit of a matched route; raises. (yields)
local function act(ctx)
  local route = ctx.route
  local status, value, extra = route.handler(ctx, ctx.body)
  if route.record then route.record(ctx, status or 200, value) end
  if not route.raw and type(value) == "table" then value = json.encode(value) end
  return status, value, extra
end

-- The steps of a matched route around what it does; raises. (yields)
local function run(ctx)
  local route = ctx.route
  local steps = route.steps
  for i = 1, #steps do steps[i](ctx) end
  local status, value, extra
  if route.once then status, value, extra = route.once(ctx, act) else status, value, extra = act(ctx) end
  if route.tagged then status, value, extra = route.tagged(ctx, status, value, extra) end
  return status, value, extra
end

local function with_traceback(err)
  if type(err) == "table" then return err end
  return { message = tostring(err), traceback = debug.traceback("", 2) }
end

local function fail(ctx, err)
  if ctx.res:closed() then return CLIENT_GONE end
  if ctx.started then -- a stream cannot become an error reply any more: cut it, so that the client notices
    problem.reply(err, ctx)
    ctx.res:abort()
    return ctx.status or 200
  end
  local status, body = problem.reply(err, ctx)
  send(ctx, status, body, problem.headers(status, err))
  return status
end

local function handle(ctx)
  local ok, status, value, extra = xpcall(run, with_traceback, ctx)
  if not ok then return fail(ctx, status) end
  if ctx.route.raw or ctx.started then return status or ctx.status or (ctx.started and 200 or CLIENT_GONE) end
  local is_compressed
  value, extra, is_compressed = compress.apply(ctx, value, extra)
  send(ctx, status, value, extra, is_compressed)
  return status
end

local function not_routed(ctx, allowed)
  local method, path = ctx.req.method, ctx.req.path
  if method == "OPTIONS" then
    local headers = ctx.app.cors.preflight(ctx.headers["access-control-request-headers"])
    headers["x-request-id"] = ctx.request_id
    ctx.res:send(204, headers)
    return 204
  end
  -- A route is a method and a path: another method of a known path is as unknown as any other route.
  local status, body = problem.reply(errors.new("NOT_FOUND", nil, "Cannot " .. method .. " " .. path), ctx)
  send(ctx, status, body, allowed and { allow = table.concat(allowed, ", ") })
  return status
end

---The function for server:serve. (yields)
---@return fun(req: table, res: table)
function App:handler()
  local routes, finished, streams = self.router, self.finished, self.streams
  local begin, finish = self.begin, self.finish
  local anonymous = authenticate.ANONYMOUS
  return function(req, res)
    local headers = req.headers
    local ctx = setmetatable({
      req = req, res = res, headers = headers, request_id = request_id(headers), started_ms = sys.mono_ms(),
      actor = anonymous, tenant = anonymous.tenant, streams = streams, app = self,
    }, Context)
    local route, params, broken = routes:match(req.method, req.path)
    if route == nil then
      finished(ctx, not_routed(ctx, params))
      return
    end
    ctx.route, ctx.params, ctx.broken_param = route, params, broken
    begin(ctx)
    local status = handle(ctx)
    finish(ctx, status)
    finished(ctx, status)
    task.set_scope(nil)
  end
end

---The function that shapes the host's own error replies (second argument of server:serve).
---@return fun(status: integer, reason: string, given: table|nil): table, string given: fields of the request, as far
--- as they were read
function App:on_error()
  return function(status, reason, given)
    local headers = problem.headers(status) or {}
    headers["content-type"], headers["x-request-id"] = JSON, request_id(given or {})
    self.cors.apply(headers)
    return headers, problem.from_host(status, reason)
  end
end

---Tells event streams to go away; part of shutting down.
function App:shutdown_streams()
  log.debug("http.streams_closing", { count = self.streams.count })
  self.streams:shutdown()
end

return M
