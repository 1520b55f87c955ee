-- White space as the protocol's runtimes see it: Unicode's White_Space, in UTF-8. Text without bytes that may begin one
-- of the wide ones costs one look.

local byte, find, gsub = string.byte, string.find, string.gsub

-- U+0085 U+00A0, U+1680, U+2000 to U+200A, U+2028 U+2029 U+202F, U+205F, U+3000
local WIDE = { "\xC2[\x85\xA0]", "\xE1\x9A\x80", "\xE2\x80[\x80-\x8A\xA8\xA9\xAF]", "\xE2\x81\x9F", "\xE3\x80\x80" }
local FIRST, LAST = 0xC2, 0xE3

local M = {}

local function narrow(text)
  for _, pattern in ipairs(WIDE) do text = gsub(text, pattern, " ") end
  return text
end

---Whether nothing but white space is in a text.
---@param text string
---@return boolean
function M.is_blank(text)
  local at = find(text, "%S")
  if at == nil then return true end
  local first = byte(text, at)
  if first < FIRST or first > LAST then return false end
  return not find(narrow(text), "%S")
end

---Whether a text begins or ends with white space.
---@param text string
---@return boolean
function M.is_around(text)
  if find(text, "[\x80-\xFF]") then text = narrow(text) end
  return find(text, "^%s") ~= nil or find(text, "%s$") ~= nil
end

return M
