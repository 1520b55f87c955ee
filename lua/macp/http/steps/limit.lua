-- How often a caller may call a route: a fixed window per route and actor (the client's address when there is none,
-- an IPv6 address with the others of its network of 64 bits).

local errors = require("macp.core.errors")
local limiter = require("macp.core.limiter")
local address = require("macp.http.address")

local M = {}

-- Counts one use and raises when it is one too many.
local function take(ctx, windows, key)
  local allowed, remaining, reset_ms = windows:take(key)
  ctx.rate = { limit = windows.limit, remaining = remaining, reset_s = math.ceil(reset_ms / 1000) }
  if not allowed then error(errors.new("RATE_LIMITED", nil, "ThrottlerException: Too Many Requests"), 0) end
end

local function windows_of(limits)
  return limiter.new({ window_ms = limits.window_ms, limit = limits.limit, now_ms = limits.now_ms })
end

---What counts the calls that were refused for their credentials, by address and over all routes: who tries keys is soon
---told to wait. Callers with good keys behind the same address are not affected. nil without limits.
---@param limits table|false|nil
---@return fun(ctx: macp.Context)|nil raises RATE_LIMITED
function M.of_refused(limits)
  if not limits then return nil end
  local windows = windows_of(limits)
  return function(ctx) take(ctx, windows, address.network(ctx.req.peer)) end
end

---@return fun(ctx: macp.Context)|nil step
function M.compile(route, app)
  if route.rate == "none" or not app.limits then return nil end
  local windows = windows_of(app.limits)
  return function(ctx)
    take(ctx, windows, ctx.actor.type == "anonymous" and address.network(ctx.req.peer) or ctx.actor.id)
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
