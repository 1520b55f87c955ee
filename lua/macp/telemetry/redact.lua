-- What must not be shown: passwords in URLs.

local MASK = "********"

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

return M
