-- The shape of an envelope and of session ids: what can be judged without knowing any session.
-- Every check answers nil, code, reason; the order of checks decides which error a client sees.

local VERSION = require("macp.protocol.codes").VERSION
local white_space = require("macp.protocol.white_space")

local find, byte, match = string.find, string.byte, string.match

local MAX_FIELD_BYTES = 1024
local MAX_SESSION_ID_BYTES = 256
local MIN_NEW_ID_BYTES, MAX_NEW_ID_BYTES = 22, 255 -- 255: the longest file name and journal key

-- Written by the runtime only; a client that sends them is refused before dispatch.
local RUNTIME_TYPES = { SessionCancel = true, SessionSuspend = true, SessionResume = true }

local M = {}

local is_blank = white_space.is_blank

local function check_lengths(envelope)
  if #envelope.session_id > MAX_SESSION_ID_BYTES then
    return nil, "INVALID_ENVELOPE", "session_id is longer than 256 bytes"
  end
  local type_, id, mode, sender = envelope.message_type, envelope.message_id, envelope.mode, envelope.sender
  if #type_ > MAX_FIELD_BYTES or #id > MAX_FIELD_BYTES or #mode > MAX_FIELD_BYTES or #sender > MAX_FIELD_BYTES then
    return nil, "INVALID_ENVELOPE", "a field is longer than 1024 bytes"
  end
  if find(id, "\0", 1, true) or find(envelope.session_id, "\0", 1, true) or find(type_, "\0", 1, true)
      or find(mode, "\0", 1, true) or find(sender, "\0", 1, true) then
    return nil, "INVALID_ENVELOPE", "a field contains a NUL byte"
  end
  return true
end

local function check_addressing(envelope)
  local message_type, session_id, mode = envelope.message_type, envelope.session_id, envelope.mode
  if message_type == "Signal" then
    if session_id ~= "" then return nil, "INVALID_ENVELOPE", "a Signal has no session_id" end
    if not is_blank(mode) then return nil, "INVALID_ENVELOPE", "a Signal has no mode" end
    return true
  end
  if message_type == "Progress" and session_id == "" then
    if not is_blank(mode) then return nil, "INVALID_ENVELOPE", "Progress with a mode needs a session_id" end
    return true
  end
  if session_id == "" then return nil, "INVALID_ENVELOPE", "session_id is empty" end
  if is_blank(mode) then return nil, "INVALID_ENVELOPE", "mode is blank" end
  return true
end

---Checks what an envelope must look like whatever it says.
---@param envelope table decoded macp.v1.Envelope with all fields present
---@param max_payload_bytes integer
---@return true|nil, string? code, string? reason
function M.check_shape(envelope, max_payload_bytes)
  if envelope.macp_version ~= VERSION then
    return nil, "UNSUPPORTED_PROTOCOL_VERSION", "macp_version must be " .. VERSION
  end
  if envelope.message_type == "" then return nil, "INVALID_ENVELOPE", "message_type is empty" end
  if envelope.message_id == "" then return nil, "INVALID_ENVELOPE", "message_id is empty" end
  local ok, code, reason = check_addressing(envelope)
  if not ok then return nil, code, reason end
  if #envelope.payload > max_payload_bytes then
    return nil, "PAYLOAD_TOO_LARGE",
      string.format("the payload has %d bytes, at most %d are allowed", #envelope.payload, max_payload_bytes)
  end
  ok, code, reason = check_lengths(envelope)
  if not ok then return nil, code, reason end
  if RUNTIME_TYPES[envelope.message_type] then
    return nil, "FORBIDDEN", envelope.message_type .. " is written by the runtime only"
  end
  return true
end

-- Something that parses as a UUID, in any case, is never judged as an opaque id.
local function is_uuid_shaped(id)
  return #id == 36 and match(id, "^%x%x%x%x%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x+$") ~= nil
end

---Whether a new session may have this id: a canonical UUID of version 4 or 7, or at least 22 characters of
---base64url. Accepted ids are safe file names.
---@param id string
---@return boolean
function M.is_session_id(id)
  if #id > MAX_NEW_ID_BYTES then return false end
  if is_uuid_shaped(id) then
    local version = byte(id, 15) -- the variant is not looked at: ids made by hand rarely have one
    return not find(id, "%u") and (version == 0x34 or version == 0x37)
  end
  return #id >= MIN_NEW_ID_BYTES and not find(id, "[^%w_%-]")
end

---Whether a message belongs to no session's history.
function M.is_ambient(message_type) return message_type == "Signal" or message_type == "Progress" end

return M
