-- UTF-8 of texts that do not come through the JSON decoder.

local M = {}

-- Lowest code point per number of continuation bytes: shorter forms of it are not allowed.
local LOWEST = { 0x80, 0x800, 0x10000 }

local function sequence_length(byte)
  if byte >= 0xC2 and byte <= 0xDF then return 1, byte - 0xC0 end
  if byte >= 0xE0 and byte <= 0xEF then return 2, byte - 0xE0 end
  if byte >= 0xF0 and byte <= 0xF4 then return 3, byte - 0xF0 end
  return nil
end

-- The position after the character that starts at `at`, or nil when it is malformed.
local function next_position(text, at)
  local byte = text:byte(at)
  if byte < 0x80 then return at + 1 end
  local count, code = sequence_length(byte)
  if count == nil then return nil end
  for i = at + 1, at + count do
    local follow = text:byte(i)
    if follow == nil or follow < 0x80 or follow > 0xBF then return nil end
    code = code * 64 + follow - 0x80
  end
  if code < LOWEST[count] or code > 0x10FFFF or (code >= 0xD800 and code <= 0xDFFF) then return nil end
  return at + count + 1
end

---true for well-formed UTF-8 without NUL (which PostgreSQL cannot store).
---@param text string
function M.is_text(text)
  local at = text:find("[%z\128-\255]")
  while at do
    if text:byte(at) == 0 then return false end
    at = next_position(text, at)
    if at == nil then return false end
    at = text:find("[%z\128-\255]", at)
  end
  return true
end

---The beginning of a text, at most so many bytes and no half character, with "..." when something is missing.
---@param text string valid UTF-8
---@param bytes integer
---@return string
function M.shorten(text, bytes)
  if #text <= bytes then return text end
  while bytes > 0 and text:find("^[\128-\191]", bytes + 1) do bytes = bytes - 1 end
  return text:sub(1, bytes) .. "..."
end

return M
