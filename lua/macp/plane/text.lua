-- Small pieces of JSON text, built without the encoder: the hot path of ingest splices them.

local json = require("macp.core.json")
local time = require("macp.core.time")

local REPLACEMENT = "\239\191\189" -- U+FFFD: PostgreSQL text cannot hold U+0000
local CACHE_MAX = 4096

local M = {}

---A string without the character that PostgreSQL cannot hold; it becomes U+FFFD.
function M.storable(value)
  if not value:find("%z") then return value end
  return (value:gsub("%z", REPLACEMENT))
end

---A string as JSON text.
function M.quote(value)
  if not value:find('[%c"\\]') then return '"' .. value .. '"' end
  return json.encode(M.storable(value))
end

local cache, cached = {}, 0

---The same for strings that come again and again (participants, message types).
function M.quote_name(value)
  local text = cache[value]
  if text == nil then
    text = M.quote(value)
    if cached >= CACHE_MAX then cache, cached = {}, 0 end
    cache[value], cached = text, cached + 1
  end
  return text
end

-- Whether the escape at `at` is an escape and not the second half of an escaped backslash.
local function is_escape(text, at)
  local backslashes = 0
  while at - backslashes >= 1 and text:byte(at - backslashes) == 92 do backslashes = backslashes + 1 end
  return backslashes % 2 == 1
end

---Words of others as text that JSON and the database can hold: what is no UTF-8 and U+0000 become U+FFFD.
function M.printable(words)
  if not words:find("[%z\128-\255]") then return words end
  return (json.decode(json.encode({ words }))[1]:gsub("%z", REPLACEMENT))
end

---JSON text without U+0000 (it is replaced by U+FFFD).
function M.clean(text)
  local at = text:find("\\u0000", 1, true)
  if at == nil then return text end
  local out, from = {}, 1
  while at do
    if is_escape(text, at) then
      out[#out + 1] = text:sub(from, at - 1)
      out[#out + 1] = REPLACEMENT
      from = at + 6
    end
    at = text:find("\\u0000", at + 6, true)
  end
  out[#out + 1] = text:sub(from)
  return table.concat(out)
end

---A value as JSON text that can be stored, and the value that this text tells: what is folded now is what the stored text
---folds to later.
---@param value any
---@return string text
---@return any told
function M.told(value)
  local raw = json.encode(value)
  local shown = M.clean(raw)
  if shown == raw then return raw, value end
  return shown, json.decode(shown)
end

local iso_ms, iso_text

---ISO text of a time; events of one batch share theirs.
function M.iso(ms)
  if ms ~= iso_ms then iso_ms, iso_text = ms, time.iso(ms) end
  return iso_text
end

---Bytes as readable text: valid UTF-8 is kept, every other byte becomes U+FFFD.
function M.utf8(bytes)
  local out, at, size = {}, 1, #bytes
  while at <= size do
    local plain_end = bytes:find("[\128-\255]", at)
    if plain_end ~= at then
      out[#out + 1] = bytes:sub(at, (plain_end or size + 1) - 1)
      at = plain_end or size + 1
    else
      local char = bytes:match("^[\194-\223][\128-\191]", at)
        or bytes:match("^\224[\160-\191][\128-\191]", at)
        or bytes:match("^[\225-\236\238\239][\128-\191][\128-\191]", at)
        or bytes:match("^\237[\128-\159][\128-\191]", at)
        or bytes:match("^\240[\144-\191][\128-\191][\128-\191]", at)
        or bytes:match("^[\241-\243][\128-\191][\128-\191][\128-\191]", at)
        or bytes:match("^\244[\128-\143][\128-\191][\128-\191]", at)
      out[#out + 1] = char or REPLACEMENT
      at = at + (char and #char or 1)
    end
  end
  return table.concat(out)
end

return M
