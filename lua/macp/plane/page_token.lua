-- Where a page of a list ended, as one opaque text: base64url of its parts with colons between.

local crypto = require("host.crypto")

local M = {}

---@param ... string|number parts without colons
function M.make(...)
  return crypto.base64url_encode(table.concat({ ... }, ":"))
end

---The parts of a token, nil when it was not made here.
---@param token string
---@param pattern string a Lua pattern with a capture per part
---@return string|nil ...
function M.parts(token, pattern)
  local text = crypto.base64url_decode(token)
  if text == nil then return nil end
  return text:match("^" .. pattern .. "$")
end

return M
