-- Error codes of the protocol: the name inside the runtime, the HTTP status, the gRPC status on streams.

local json = require("macp.core.json")

local M = {}

M.VERSION = "1.0"

---@class macp.protocol.Code
---@field http integer status a REST gateway answers with
---@field name string internal name, the head of the error text

M.CODES = {
  UNSUPPORTED_PROTOCOL_VERSION = { http = 400, name = "InvalidMacpVersion" },
  INVALID_ENVELOPE = { http = 400, name = "InvalidEnvelope" },
  INVALID_SESSION_ID = { http = 400, name = "InvalidSessionId" },
  MODE_NOT_SUPPORTED = { http = 400, name = "UnknownMode" },
  UNAUTHENTICATED = { http = 401, name = "Unauthenticated" },
  FORBIDDEN = { http = 403, name = "Forbidden" },
  POLICY_DENIED = { http = 403, name = "PolicyDenied" },
  SESSION_NOT_FOUND = { http = 404, name = "UnknownSession" },
  UNKNOWN_POLICY_VERSION = { http = 404, name = "UnknownPolicyVersion" },
  SESSION_ALREADY_EXISTS = { http = 409, name = "SessionAlreadyExists" },
  SESSION_NOT_OPEN = { http = 409, name = "SessionNotOpen" },
  DUPLICATE_MESSAGE = { http = 409, name = "DuplicateMessage" },
  PAYLOAD_TOO_LARGE = { http = 413, name = "PayloadTooLarge" },
  RATE_LIMITED = { http = 429, name = "RateLimited" },
  INVALID_POLICY_DEFINITION = { http = 400, name = "InvalidPolicyDefinition" },
  INTERNAL_ERROR = { http = 500, name = "StorageFailed" },
}

-- INTERNAL_ERROR is what the disk does, and what a mode's own functions do: they are told apart by this.
M.MODE_FAILED = "ModeFailed"

---The text of an error: the internal name, then the specific reason.
---@param code string
---@param reason string
---@param name? string a narrower internal name, e.g. "InvalidTtl"
function M.text(code, reason, name)
  local known = M.CODES[code]
  return (name or (known and known.name) or code) .. ": " .. reason
end

---Whether the text of an INTERNAL_ERROR tells of a mode's own functions, and not of the store.
---@param text string
function M.is_mode_failure(text) return text:sub(1, #M.MODE_FAILED + 1) == M.MODE_FAILED .. ":" end

---MACPError.details: UTF-8 JSON {"reasons": [...], "items": [{"rule", "text"}]} of a policy's refusal, else nothing.
---@param details { reasons: string[], items: table[]|nil }|nil
---@return string bytes
function M.details(details)
  if details == nil or details.reasons == nil then return "" end
  local items = details.items and json.array(details.items) or nil
  return json.encode({ reasons = json.array(details.reasons), items = items }, { sorted = true })
end

return M
