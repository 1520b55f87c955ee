-- Named text formats of schemas: how each is checked, what its message says, its name in OpenAPI.

local ids = require("macp.core.ids")
local time = require("macp.core.time")

-- What follows the host in the authority of a URL: nothing, or a port from 1 to 65535.
local function is_port(text)
  if text == "" then return true end
  local digits = text:match("^:(%d+)$")
  local port = digits and #digits <= 5 and tonumber(digits)
  return port and port >= 1 and port <= 65535 or false
end

local function is_http_url(text)
  local authority = text:match("^[hH][tT][tT][pP][sS]?://([^/?#]+)")
  if #text > 2048 or authority == nil or authority:find("[%s@]") or text:find("[%c%s]") then return false end
  local host, rest = authority:match("^(%[[%x:%.]+%])(.*)$")
  if host == nil then host, rest = authority:match("^([^:]+)(.*)$") end
  return host ~= nil and is_port(rest)
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
  ["header-value"] = {
    check = function(text) return text:find("[%z\1-\8\10-\31\127]") == nil end,
    says = "must not contain control characters",
  },
  ["non-blank"] = { check = function(text) return text:find("%S") ~= nil end, says = "should not be empty" },
}

return M
