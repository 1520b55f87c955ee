-- Redaction: what the operator's expressions match never reaches a stored event, a projection, a stream or a delivery.
-- Applied to decoded payloads before anything is made of them; artifacts and audit entries are stored redacted, too. What is
-- needed again stays as it came and is redacted where it is shown: the received frames of a session, which the mode reads,
-- and the request of a run, which clones and launchers repeat.

local crypto = require("host.crypto")
local fs = require("host.fs")

local errors = require("macp.core.errors")
local json = require("macp.core.json")
local regex = require("macp.core.regex")

local MARK, TIMEOUT = "[REDACTED]", "[REDACTED:timeout]"
local MAX_FILE_BYTES = 1048576
local MIN_BASE64 = 16 -- shorter texts that look like base64 are taken for words
local MAX_DEPTH = 100

local PRESETS = {
  api_keys = {
    "\\b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,}", "\\bAKIA[0-9A-Z]{16}\\b", "\\bgh[pousr]_[A-Za-z0-9]{36,}",
    "\\bxox[abprs]-[A-Za-z0-9-]{10,}", "\\bAIza[0-9A-Za-z_-]{35}",
    "\\beyJ[A-Za-z0-9_-]{8,}\\.[A-Za-z0-9_-]{8,}\\.[A-Za-z0-9_-]+", "(?:B|b)earer +[A-Za-z0-9._~+/-]{16,}=*",
  },
  email = { "[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\\.[A-Za-z0-9-]+)+" },
  ssn = { "\\b\\d{3}-\\d{2}-\\d{4}\\b" },
}

---@class macp.plane.Redactor
local Redactor = {}
Redactor.__index = Redactor

local M = {}

local function refuse(variable, reason)
  return nil, errors.new("VALIDATION_ERROR", nil, variable .. ": " .. reason)
end

local function check_each(variable, list)
  for _, expression in ipairs(list) do
    local compiled, reason = regex.new({ expression })
    if compiled == nil then return refuse(variable, reason) end
  end
  return true
end

-- Expressions of a file, one per line; empty lines and those that begin with # are skipped. (yields)
local function read_file(path)
  local text, err = fs.read(path, MAX_FILE_BYTES)
  if text == nil then return refuse("MACP_REDACT_PATTERNS_FILE", path .. ": " .. err.message) end
  local list = {}
  for line in text:gmatch("[^\r\n]+") do
    if not line:find("^%s*#") and line:find("%S") then list[#list + 1] = line end
  end
  return list
end

local function preset_patterns(names)
  local list = {}
  for _, name in ipairs(names) do
    if PRESETS[name] == nil then
      return refuse("MACP_REDACT_PRESETS", string.format("%q is not known; there are api_keys, email, ssn", name))
    end
    for _, expression in ipairs(PRESETS[name]) do list[#list + 1] = expression end
  end
  return list
end

---Reads the expressions; an expression that cannot be used stops the start rather than hiding less than was asked. (yields)
---@param opts { patterns: string[], file: string|nil, presets: string[] }
---@return macp.plane.Redactor|false|nil false: there is nothing to redact
---@return macp.Error|nil
function M.open(opts)
  local all, err = preset_patterns(opts.presets)
  if all == nil then return nil, err end
  local from_file
  if opts.file then
    from_file, err = read_file(opts.file)
    if from_file == nil then return nil, err end
  end
  for variable, list in pairs({ MACP_REDACT_PATTERNS = opts.patterns, MACP_REDACT_PATTERNS_FILE = from_file or {} }) do
    local ok, problem = check_each(variable, list)
    if not ok then return nil, problem end
    for _, expression in ipairs(list) do all[#all + 1] = expression end
  end
  if #all == 0 then return false end
  local compiled, reason = regex.new(all)
  if compiled == nil then return refuse("MACP_REDACT_PATTERNS", reason) end
  return setmetatable({ regex = compiled }, Redactor)
end

---A text without what must not be seen.
---@return string
---@return boolean changed
function Redactor:text(text)
  local out, changed = self.regex:replace(text, MARK)
  return out or TIMEOUT, changed
end

-- Bytes that travel as base64, when that is what the text is.
local function hidden_bytes(text)
  if #text < MIN_BASE64 or #text % 4 ~= 0 or not text:find("^[%w+/]+=?=?$") then return nil end
  return crypto.base64_decode(text)
end

local function redact_string(self, text)
  local out, changed = self:text(text)
  if changed then return out, true, false end
  local bytes = hidden_bytes(text)
  if bytes then
    out, changed = self:text(bytes)
    if changed then return crypto.base64_encode(out), true, true end
  end
  return text, false, false
end

---Redacts every text inside a decoded value, in place; objects whose base64 bytes were redacted get `redacted: true`.
---@param value any
---@return any value the same, or its replacement when it is a text
---@return boolean changed
function Redactor:value(value, depth)
  depth = depth or 0
  if type(value) == "string" then return redact_string(self, value) end
  if type(value) ~= "table" then return value, false end
  if depth > MAX_DEPTH then return MARK, true end
  local changed, has_bytes = false, false
  for key, item in pairs(value) do
    local out, item_changed, was_bytes = self:value(item, depth + 1)
    if item_changed then
      value[key], changed = out, true
      has_bytes = has_bytes or was_bytes
    end
  end
  if has_bytes and not json.is_array(value) then value.redacted = true end
  return value, changed
end

---JSON text without what must not be seen.
function Redactor:json(text)
  local value = json.decode(text)
  if value == nil then return text end
  local out, changed = self:value(value)
  return changed and json.encode(out) or text
end

---A text that may be JSON, without what must not be seen.
---@param text string|nil
---@return string|nil
function Redactor:any(text)
  if text == nil then return nil end
  local value = json.decode(text)
  if type(value) == "table" then return self:json(text) end
  return (self:text(text))
end

---The fields of an ambient message as they are stored: payload texts and bytes redacted.
---@param fields table decoded payload, changed in place
---@return boolean changed
function Redactor:fields(fields)
  local changed = false
  for name, item in pairs(fields) do
    if type(item) == "string" then
      local out, item_changed = self:text(item)
      if item_changed then fields[name], changed = out, true end
    end
  end
  return changed
end

return M
