-- Typed errors: a stable code, a message for people, metadata for programs, the HTTP and gRPC status.
-- Expected failures are returned as `nil, err`; errors.check turns them into a raise where a dispatcher catches.

local M = {}

-- gRPC status numbers by name.
local GRPC = {
  OK = 0, CANCELLED = 1, UNKNOWN = 2, INVALID_ARGUMENT = 3, DEADLINE_EXCEEDED = 4, NOT_FOUND = 5,
  ALREADY_EXISTS = 6, PERMISSION_DENIED = 7, RESOURCE_EXHAUSTED = 8, FAILED_PRECONDITION = 9, ABORTED = 10,
  OUT_OF_RANGE = 11, UNIMPLEMENTED = 12, INTERNAL = 13, UNAVAILABLE = 14, DATA_LOSS = 15, UNAUTHENTICATED = 16,
}

local PRECONDITION = GRPC.FAILED_PRECONDITION

-- code = { HTTP status, gRPC status, default message }
local CODES = {
  -- control plane
  VALIDATION_ERROR = { 400, GRPC.INVALID_ARGUMENT, "the request is not valid" },
  INVALID_SESSION_ID = { 400, GRPC.INVALID_ARGUMENT, "the session id is not acceptable" },
  MODE_NOT_SUPPORTED = { 400, PRECONDITION, "the mode is not supported" },
  UNKNOWN_POLICY_VERSION = { 400, PRECONDITION, "the policy is not registered" },
  INVALID_POLICY_DEFINITION = { 400, GRPC.INVALID_ARGUMENT, "the policy definition is not valid" },
  UNAUTHENTICATED = { 401, GRPC.UNAUTHENTICATED, "authentication is required" },
  FORBIDDEN = { 403, GRPC.PERMISSION_DENIED, "not allowed" },
  POLICY_DENIED = { 403, PRECONDITION, "denied by policy" },
  RUN_NOT_FOUND = { 404, GRPC.NOT_FOUND, "run not found" },
  NOT_FOUND = { 404, GRPC.NOT_FOUND, "not found" },
  REQUEST_TIMEOUT = { 408, GRPC.DEADLINE_EXCEEDED, "the request did not arrive in time" },
  URI_TOO_LONG = { 414, GRPC.INVALID_ARGUMENT, "the path is too long" },
  HEADERS_TOO_LARGE = { 431, GRPC.RESOURCE_EXHAUSTED, "the headers are too large" },
  CONFLICT = { 409, GRPC.ABORTED, "conflict" },
  INVALID_STATE_TRANSITION = { 409, PRECONDITION, "the state does not allow this" },
  SESSION_ALREADY_EXISTS = { 409, GRPC.ALREADY_EXISTS, "the session already exists" },
  ENDPOINT_REMOVED = { 410, GRPC.UNIMPLEMENTED, "this endpoint was removed" },
  PAYLOAD_TOO_LARGE = { 413, GRPC.RESOURCE_EXHAUSTED, "the payload is too large" },
  UNSUPPORTED_MEDIA_TYPE = { 415, GRPC.INVALID_ARGUMENT, "the content type must be application/json" },
  RATE_LIMITED = { 429, GRPC.RESOURCE_EXHAUSTED, "too many requests" },
  INTERNAL_ERROR = { 500, GRPC.INTERNAL, "internal error" },
  NOT_IMPLEMENTED = { 501, GRPC.UNIMPLEMENTED, "not implemented" },
  RUNTIME_UNAVAILABLE = { 503, GRPC.UNAVAILABLE, "the runtime is not reachable" },
  CIRCUIT_BREAKER_OPEN = { 503, GRPC.UNAVAILABLE, "the circuit breaker is open" },
  SERVICE_UNAVAILABLE = { 503, GRPC.UNAVAILABLE, "the server cannot answer now" },
  SHUTTING_DOWN = { 503, GRPC.UNAVAILABLE, "the server is shutting down" },
  RUNTIME_TIMEOUT = { 504, GRPC.DEADLINE_EXCEEDED, "the runtime did not answer in time" },
  SESSION_EXPIRED = { 410, PRECONDITION, "the session has expired" },
  STREAM_EXHAUSTED = { 503, GRPC.UNAVAILABLE, "the stream could not be resumed" },
  -- runtime
  UNSUPPORTED_PROTOCOL_VERSION = { 400, PRECONDITION, "the protocol version is not supported" },
  INVALID_ENVELOPE = { 400, PRECONDITION, "the envelope is not valid" },
  SESSION_NOT_FOUND = { 404, PRECONDITION, "session not found" },
  SESSION_NOT_OPEN = { 409, PRECONDITION, "the session is not open" },
  DUPLICATE_MESSAGE = { 409, PRECONDITION, "the message was seen before" },
}

-- What a failed call to the runtime means for our own caller (unlisted: INTERNAL_ERROR).
local FROM_GRPC = {
  [GRPC.INVALID_ARGUMENT] = "VALIDATION_ERROR", [GRPC.OUT_OF_RANGE] = "VALIDATION_ERROR",
  [GRPC.UNAUTHENTICATED] = "UNAUTHENTICATED", [GRPC.PERMISSION_DENIED] = "FORBIDDEN",
  [GRPC.NOT_FOUND] = "NOT_FOUND", [GRPC.FAILED_PRECONDITION] = "CONFLICT", [GRPC.ABORTED] = "CONFLICT",
  [GRPC.ALREADY_EXISTS] = "CONFLICT", [GRPC.RESOURCE_EXHAUSTED] = "RATE_LIMITED",
  [GRPC.UNIMPLEMENTED] = "NOT_IMPLEMENTED", [GRPC.UNAVAILABLE] = "RUNTIME_UNAVAILABLE",
  [GRPC.DEADLINE_EXCEEDED] = "RUNTIME_TIMEOUT",
}

M.grpc = GRPC

---@class macp.Error
---@field code string stable, UPPER_CASE
---@field message string|string[] for people; a list only for field validation
---@field metadata table|nil facts for programs
---@field http integer HTTP status; whoever makes the error may change it (502 of a failed callback)
---@field grpc integer
---@field retry_after_s integer|nil when it is worth another try, where whoever made the error knows that
local Error = {}
Error.__index = Error

function Error.__tostring(err)
  local message = err.message
  if type(message) == "table" then message = table.concat(message, "; ") end
  return err.code .. ": " .. message
end

---Makes a typed error. `new(code)`, `new(code, message)`, `new(code, metadata)` or `new(code, metadata, message)`.
---@param code string a code of the table above; an unknown one is a bug and raises
---@param detail table|string|nil metadata, or the message
---@param message string|string[]|nil
---@return macp.Error
function M.new(code, detail, message)
  local known = CODES[code]
  if known == nil then error("unknown error code " .. tostring(code), 2) end
  local metadata
  if type(detail) == "table" then metadata = detail else message = message or detail end
  return setmetatable({
    code = code, message = message or known[3], metadata = metadata, http = known[1], grpc = known[2],
  }, Error)
end

---A list of field problems as one VALIDATION_ERROR whose message is the list.
---@param problems { path: string, message: string }[]
function M.validation(problems)
  local messages = {}
  for i, problem in ipairs(problems) do messages[i] = problem.message end
  return M.new("VALIDATION_ERROR", nil, messages)
end

---The error of a failed call to the runtime.
---@param status integer gRPC status
---@param message string|nil the runtime's words
function M.from_grpc(status, message)
  local code = FROM_GRPC[status] or "INTERNAL_ERROR"
  return M.new(code, { grpcCode = status }, message ~= "" and message or nil)
end

---true when err is a typed error made here (and not one of the host's or a bug).
function M.is_typed(err)
  return type(err) == "table" and getmetatable(err) == Error
end

---true when err is a table with this code.
function M.is(err, code)
  return type(err) == "table" and err.code == code
end

---Passes results through; raises err when the first one is nil or false and there is an err.
function M.check(value, err, ...)
  if not value and err ~= nil then error(err, 0) end
  return value, err, ...
end

---The same error with words put before its message; host errors and strings become INTERNAL_ERROR.
---@param err any
---@param words string what was attempted
---@return macp.Error
function M.wrap(err, words)
  if not M.is_typed(err) then
    local text = type(err) == "table" and (err.message or err.code) or err
    local wrapped = M.new("INTERNAL_ERROR", nil, words .. ": " .. tostring(text))
    wrapped.cause = err
    return wrapped
  end
  local message = type(err.message) == "table" and table.concat(err.message, "; ") or err.message
  local wrapped = M.new(err.code, err.metadata, words .. ": " .. message)
  wrapped.cause = err
  return wrapped
end

---All codes, sorted (for documents and tests).
function M.codes()
  local names = {}
  for name in pairs(CODES) do names[#names + 1] = name end
  table.sort(names)
  return names
end

return M
