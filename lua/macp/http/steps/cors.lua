-- Cross-origin access: one fixed origin, credentials allowed.

local METHODS = "GET,HEAD,PUT,PATCH,POST,DELETE"

local M = {}

---@param origin string|nil nil: no cross-origin headers
---@return { apply: fun(headers: table), preflight: fun(requested: string|nil): table }
function M.new(origin)
  local function apply(headers)
    if origin == nil then return end
    headers["access-control-allow-origin"] = origin
    headers["access-control-allow-credentials"] = "true"
    headers["vary"] = "Origin"
  end
  local function preflight(requested)
    local headers = { ["access-control-allow-methods"] = METHODS }
    apply(headers)
    if requested then
      headers["access-control-allow-headers"] = requested
      headers["vary"] = "Origin, Access-Control-Request-Headers"
    end
    return headers
  end
  return { apply = apply, preflight = preflight }
end

return M
