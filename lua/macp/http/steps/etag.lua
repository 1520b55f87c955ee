-- Entity tags: a reply of a route with `etag = true` carries one, and a caller that names it gets 304 without a body. The
-- tag is made of the bytes, so that it holds across processes; a handler that knows a cheaper one sets it as a header.

local crypto = require("host.crypto")

local CACHE = "private, no-cache" -- keep it, and ask whether it still holds

local M = {}

---The tag of a text.
function M.of(text)
  return '"' .. crypto.base64url_encode(crypto.sha256(text):sub(1, 16)) .. '"'
end

---Whether an If-None-Match field names the tag (RFC 9110 section 13.1.2, weak comparison).
---@param field string
---@param tag string in quotes, perhaps with W/ in front
function M.matches(field, tag)
  if field:find("^%s*%*%s*$") then return true end
  local opaque = tag:match('"[^"]*"')
  for named in field:gmatch('"[^"]*"') do
    if named == opaque then return true end
  end
  return false
end

---@return (fun(ctx: macp.Context, status: integer, body: any, headers: table|nil): integer, any, table|nil)|nil
function M.compile(route)
  if not route.etag then return nil end
  return function(ctx, status, body, headers)
    if status ~= 200 or body == nil then return status, body, headers end
    headers = headers or {}
    headers.etag = headers.etag or "W/" .. M.of(tostring(body))
    headers["cache-control"] = headers["cache-control"] or CACHE
    local asked = ctx.headers["if-none-match"]
    if asked and M.matches(asked, headers.etag) then
      return 304, nil, { etag = headers.etag, ["cache-control"] = headers["cache-control"] }
    end
    return status, body, headers
  end
end

return M
