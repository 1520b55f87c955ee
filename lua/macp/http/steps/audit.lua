-- The audit entry of routes that change something. A handler that writes it in the transaction of its change sets
-- ctx.audited.

local log = require("host.log")

local M = {}

---@return fun(ctx: macp.Context, status: integer, value: any)|nil
function M.compile(route, app)
  local record, action = app.audit, route.audit
  if action == nil or record == nil then return nil end
  return function(ctx, status, value)
    if ctx.audited or status >= 400 then return end
    local ok, err = record(ctx, action, value)
    if ok == nil and err ~= nil then
      -- The change is made; refusing the reply would only make the caller repeat it.
      log.error("audit.failed", { action = action, request_id = ctx.request_id, error = err.message })
    end
  end
end

return M
