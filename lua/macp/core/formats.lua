-- Named text formats of schemas: how each is checked, what its message says, its name in OpenAPI.

local ids = require("macp.core.ids")
local time = require("macp.core.time")

local function is_http_url(text)
  local host = text:match("^[hH][tT][tT][pP][sS]?://([^/?#]+)")
  return #text <= 2048 and host ~= nil and not host:find("[%s@]") and not text:find("[%c%s]")
end

local M = {
  ["uuid"] = { check = ids.is_uuid, says = "must be a UUID" },
  ["strict-uuid"] = { check = ids.is_strict_uuid, says = "must be a UUID" },
  ["date-time"] = {
    check = function(text) return time.parse_iso(text) ~= nil end,
    says = "must be a valid ISO 8601 date string",
  },
  ["uri"] = { check = is_http_url, says = "must be a URL address" },
  ["session-id"] = {
    check = ids.is_session_id,
    says = "must be a lower-case UUID v4 or v7, or base64url of 22 to 255 characters",
  },
  ["non-blank"] = { check = function(text) return text:find("%S") ~= nil end, says = "should not be empty" },
}

return M
