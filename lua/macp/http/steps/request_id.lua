-- The request's id: the caller's when it is harmless, else a new one.

local crypto = require("host.crypto")

local ids = require("macp.core.ids")

---@param headers table<string, string>
---@return string
return function(headers)
  local given = headers["x-request-id"]
  if given and ids.is_request_id(given) then return given end
  return crypto.uuid4()
end
