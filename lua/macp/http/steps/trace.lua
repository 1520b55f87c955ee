-- Where a request belongs: every log line of its task names the request, its trace and the run it is about, and with
-- tracing on it is a span.

local task = require("host.task")

local SERVER = 2 -- span kind
local ERROR = 2 -- span status

local M = {}

-- `/runs/:id/...` is about a run.
local function is_about_run(route) return route.path:find("^/runs/:id%f[/%z]") ~= nil end

---@param tracer macp.Tracer|nil nil: requests have an id, and no trace
---@return fun(ctx: macp.Context) begin to be called once the route is known
---@return fun(ctx: macp.Context, status: integer) finish
function M.new(tracer)
  local function begin(ctx)
    local route, scope = ctx.route, { request_id = ctx.request_id }
    if route.is_about_run == nil then route.is_about_run = is_about_run(route) end
    if route.is_about_run then scope.run_id = ctx.params.id end
    local context = tracer and tracer:extract(ctx.headers)
    if tracer and tracer.is_on and not route.quiet then
      context = tracer:start(ctx.req.method .. " " .. route.path, context, {
        ["http.request.method"] = ctx.req.method, ["http.route"] = route.path, ["url.path"] = ctx.req.path,
        ["macp.request_id"] = ctx.request_id,
      }, SERVER)
      ctx.span = context
    end
    if context then scope[1], scope.trace_id = context, context.trace_id end
    task.set_scope(scope)
  end

  local function finish(ctx, status)
    local span = ctx.span
    if span == nil then return end
    span.attributes["http.response.status_code"] = status
    if status >= 500 then span:set_status(ERROR) end
    span:finish()
  end
  return begin, finish
end

return M
