-- How often a caller may call a route: a fixed window per route and actor (the client's address when there is none).

local errors = require("macp.core.errors")
local limiter = require("macp.core.limiter")

local M = {}

---@return fun(ctx: macp.Context)|nil step
function M.compile(route, app)
  if route.rate == "none" or not app.limits then return nil end
  local limit = app.limits.limit
  local windows = limiter.new({ window_ms = app.limits.window_ms, limit = limit, now_ms = app.limits.now_ms })
  return function(ctx)
    local key = ctx.actor.type == "anonymous" and ctx.req.peer or ctx.actor.id
    local allowed, remaining, reset_ms = windows:take(key)
    ctx.rate = { limit = limit, remaining = remaining, reset_s = math.ceil(reset_ms / 1000) }
    if not allowed then
      error(errors.new("RATE_LIMITED", nil, "ThrottlerException: Too Many Requests"), 0)
    end
  end
end

---Puts what the caller may still do into the reply's headers.
function M.describe(rate, headers, status)
  headers["x-ratelimit-limit"] = tostring(rate.limit)
  headers["x-ratelimit-remaining"] = tostring(rate.remaining)
  headers["x-ratelimit-reset"] = tostring(rate.reset_s)
  if status == 429 then headers["retry-after"] = tostring(rate.reset_s) end
end

return M
