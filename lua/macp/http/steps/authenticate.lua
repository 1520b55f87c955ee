-- Who is calling, and may they call this route.

local errors = require("macp.core.errors")

local ANONYMOUS = { id = "anonymous", type = "anonymous", tenant = "default" }

local M = { ANONYMOUS = ANONYMOUS }

---@return fun(ctx: macp.Context)|nil step; nil for public routes
function M.compile(route, app)
  if route.public or app.auth == nil then return nil end
  local auth, scope, refused = app.auth, route.scope, app.refused
  return function(ctx)
    local actor, err = auth:authenticate(ctx.req)
    if actor == nil then
      if refused then refused(ctx) end
      error(err, 0)
    end
    local allowed, reason = auth:allows(actor, scope)
    if not allowed then error(errors.new("FORBIDDEN", { scope = scope }, reason), 0) end
    ctx.actor, ctx.tenant = actor, actor.tenant
  end
end

return M
