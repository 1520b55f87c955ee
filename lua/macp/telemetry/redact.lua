-- What must not be shown: passwords in URLs, credentials in headers.

local MASK = "********"

local SECRET_HEADERS = {
  authorization = true, cookie = true, ["proxy-authorization"] = true, ["set-cookie"] = true, ["x-api-key"] = true,
}

local M = { MASK = MASK }

---The URL (or libpq connection string) without its password.
---@param text string
---@return string
function M.url(text)
  local scheme, rest = text:match("^(%a[%w+.%-]*://)(.*)$")
  if scheme then
    local authority, tail = rest:match("^([^/?#]*)(.*)$")
    local user_info, host = authority:match("^(.*)@(.*)$")
    if user_info then
      local user = user_info:match("^([^:]*):")
      authority = (user and (user .. ":" .. MASK) or user_info) .. "@" .. host
    end
    text = scheme .. authority .. tail
  else
    text = text:gsub("(password%s*=%s*)'[^']*'", "%1" .. MASK)
  end
  return (text:gsub("(password%s*=%s*)[^&%s*][^&%s]*", "%1" .. MASK))
end

---A copy of headers with credentials masked.
function M.headers(headers)
  local out = {}
  for name, value in pairs(headers) do
    out[name] = SECRET_HEADERS[name:lower()] and MASK or value
  end
  return out
end

return M
