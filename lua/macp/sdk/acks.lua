-- From what a call came back with to a result or an error of the SDK: transport failures, refusals and their reasons.

local rpc = require("host.rpc")

local json = require("macp.core.json")

local sdk_errors = require("macp.sdk.errors")

local DETAILS = "macp-error-details-bin" -- trailer of older runtimes that refuse by status
local STATE_PREFIX = "^SESSION_STATE_"

-- gRPC status number -> name.
local STATUS = {}
for name, number in pairs(rpc.status) do STATUS[number] = name end

local M = {}

---An error of host.rpc as an error of the SDK: MacpTimeoutError or MacpTransportError with the status name as code.
function M.transport_error(err)
  local status = STATUS[err.status] or "UNKNOWN"
  if err.code == "TIMEOUT" then status = "DEADLINE_EXCEEDED" end
  if err.code == "CANCELLED" then status = "CANCELLED" end
  local name = status == "DEADLINE_EXCEEDED" and "MacpTimeoutError" or "MacpTransportError"
  local message = err.message ~= "" and err.message or status
  return sdk_errors.new(name, message, { code = status, details = err.message, trailing = err.trailing })
end

---Why a refusal was made, as texts: {"reasons": [...]} of the error's details. Anything else: none.
local function reasons_of(details)
  local decoded = details and details ~= "" and json.decode(details)
  return type(decoded) == "table" and type(decoded.reasons) == "table" and decoded.reasons or {}
end

local function refusal(failure, ack, envelope)
  failure.reasons = reasons_of(failure.details)
  return sdk_errors.new("MacpAckError", failure.code .. ": " .. failure.message, {
    failure = failure, reasons = failure.reasons, ack = ack, code = failure.code,
    mode = envelope and envelope.mode, message_type = envelope and envelope.message_type,
  })
end

---SESSION_STATE_OPEN -> OPEN.
function M.short_state(state) return (state:gsub(STATE_PREFIX, "")) end

---Returns a positive ack, and a duplicate's, which is a success; raises MacpAckError for any other unless is_raised is
---false.
---@param ack table|nil
---@param envelope table|nil what it answers
---@param is_raised boolean|nil
function M.check(ack, envelope, is_raised)
  ack = ack or { ok = false, duplicate = false, session_state = "" }
  ack.session_state = M.short_state(ack.session_state)
  if ack.ok or ack.duplicate or is_raised == false then return ack end
  error(refusal(ack.error or { code = "UNKNOWN", message = "runtime returned nack" }, ack, envelope), 0)
end

---What a failed Send means: some runtimes and proxies refuse an envelope by status instead of by ack.
---@param err table error of host.rpc
---@param envelope table
function M.send_error(err, envelope)
  local found = M.transport_error(err)
  if found.code == "ALREADY_EXISTS" then
    return refusal({ code = "SESSION_ALREADY_EXISTS", message = found.message }, nil, envelope)
  end
  if found.code ~= "FAILED_PRECONDITION" then return found end
  local details = err.trailing and err.trailing[DETAILS]
  if type(details) == "table" then details = details[1] end -- a repeated trailer
  local is_policy = details ~= nil or found.message:find("^PolicyDenied") ~= nil
  return refusal({
    code = is_policy and "POLICY_DENIED" or "FAILED_PRECONDITION", message = found.message, details = details,
  }, nil, envelope)
end

return M
