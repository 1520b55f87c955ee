-- Identifiers: making them, and telling well-formed ones from others.

local crypto = require("host.crypto")

local HEX = "[0-9a-fA-F]"
local UUID = "^" .. HEX:rep(8) .. "%-" .. HEX:rep(4) .. "%-" .. HEX:rep(4) .. "%-" .. HEX:rep(4) .. "%-"
  .. HEX:rep(12) .. "$"
local MAX_SESSION_ID = 255

local M = {}

---A random UUID (version 4).
M.uuid4 = crypto.uuid4

---A UUID that sorts by time of creation (version 7); for keys of tables.
M.uuid7 = crypto.uuid7

---The 8-4-4-4-12 text form, any version, either case.
function M.is_uuid(text)
  return type(text) == "string" and #text == 36 and text:find(UUID) ~= nil
end

---A UUID whose version and variant are ones that exist, or the nil UUID.
function M.is_strict_uuid(text)
  if not M.is_uuid(text) then return false end
  return (text:find("^[1-8]", 15) ~= nil and text:find("^[89abAB]", 20) ~= nil) or text:find("^[0%-]+$") ~= nil
end

---What the runtime accepts as a session id: lower-case UUID of version 4 or 7, or base64url of 22 to 255 characters.
function M.is_session_id(text)
  if type(text) ~= "string" or #text > MAX_SESSION_ID then return false end
  if M.is_uuid(text) then
    local version, variant = text:sub(15, 15), text:sub(20, 20)
    return text == text:lower() and (version == "4" or version == "7") and variant:find("[89ab]") ~= nil
  end
  return #text >= 22 and text:find("^[%w_%-]+$") ~= nil
end

---1 to 128 characters of A-Z a-z 0-9 . _ : -
function M.is_request_id(text)
  return #text <= 128 and text:find("^[%w%._:%-]+$") ~= nil
end

return M
