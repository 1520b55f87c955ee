-- Any failure -> status and error body. Nothing else writes error replies.
-- Body: { statusCode, errorCode, message, error, metadata? }; message is a list only for field validation.


local errors = require("macp.core.errors")
local json = require("macp.core.json")
local repeats = require("macp.core.repeats")

local repeated = repeats.new() -- failures that come again and again

local REASONS = {
  [400] = "Bad Request", [401] = "Unauthorized", [403] = "Forbidden", [404] = "Not Found", [408] = "Request Timeout",
  [409] = "Conflict", [410] = "Gone", [413] = "Payload Too Large", [414] = "URI Too Long",
  [415] = "Unsupported Media Type", [417] = "Expectation Failed", [429] = "Too Many Requests",
  [431] = "Request Header Fields Too Large", [500] = "Internal Server Error", [501] = "Not Implemented",
  [502] = "Bad Gateway", [503] = "Service Unavailable", [504] = "Gateway Timeout", [505] = "HTTP Version Not Supported",
}

-- Codes of replies that the host makes before there is a request to route.
local HOST_CODES = {
  [400] = "VALIDATION_ERROR", [408] = "REQUEST_TIMEOUT", [413] = "PAYLOAD_TOO_LARGE", [414] = "URI_TOO_LONG",
  [417] = "VALIDATION_ERROR", [431] = "HEADERS_TOO_LARGE", [501] = "NOT_IMPLEMENTED", [503] = "SERVICE_UNAVAILABLE",
  [505] = "HTTP_VERSION_NOT_SUPPORTED",
}

local RETRY_AFTER_S = 2 -- what is away is looked for that often

local M = { CONTENT_TYPE = "application/json; charset=utf-8" }

---The body of an error reply as JSON text.
function M.body(status, code, message, metadata)
  if type(message) == "table" then message = json.array(message) end
  return json.encode({
    statusCode = status, errorCode = code, message = message, error = REASONS[status] or "Error", metadata = metadata,
  })
end

-- What is not a typed error is a bug or a broken neighbour: told to the log in full, to the caller in general.
local function log_unexpected(err, ctx)
  local fields = { request_id = ctx.request_id, path = ctx.route and ctx.route.path or ctx.path }
  if type(err) == "table" then
    fields.code, fields.error = err.code, err.message or tostring(err)
    fields.traceback = err.traceback
    if errors.is_typed(err) and type(err.cause) == "table" then fields.cause = err.cause.message end
  else
    fields.error = tostring(err)
  end
  repeated:tell("error", "request.failed", tostring(fields.path) .. tostring(fields.error), fields)
end

-- What a caller may know of such a failure: which status the runtime gave.
local function told_of(err)
  local code = errors.is_typed(err) and err.metadata and err.metadata.grpcCode
  return code and { grpcCode = code } or nil
end

---The headers that tell what to do about an error reply; nil: none.
---@param status integer
---@param err any what the reply was made of, if there is any
---@return table|nil
function M.headers(status, err)
  if status ~= 503 then return nil end
  local seconds = errors.is_typed(err) and err.retry_after_s or RETRY_AFTER_S
  return { ["retry-after"] = tostring(math.max(1, seconds)) }
end

---@param err any what was raised or returned
---@param ctx table the request's context, for the log
---@return integer status
---@return string body JSON text
---@return string code
function M.reply(err, ctx)
  if not errors.is_typed(err) or err.http == 500 then
    log_unexpected(err, ctx)
    return 500, M.body(500, "INTERNAL_ERROR", "Internal server error", told_of(err)), "INTERNAL_ERROR"
  end
  local status = err.http
  return status, M.body(status, err.code, err.message, err.metadata), err.code
end

---The body of a reply that the host makes itself: malformed requests, limits, time-outs.
---@return string JSON text
function M.from_host(status, reason)
  local message = reason
  if status == 500 or message == nil or message == "" then message = REASONS[status] or "Error" end
  if status == 500 then message = "Internal server error" end
  return M.body(status, HOST_CODES[status] or "INTERNAL_ERROR", message)
end

return M
