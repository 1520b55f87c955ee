-- Payload field lists: proto3 field syntax in a string -> list of fields, all problems with their line.
--
--   [repeated] type name = number [ option, option... ] ;     map<string, type> name = number ;

local suggest = require("macp.core.suggest")

local TYPES = {
  string = "text", bytes = "text", bool = "bool", json = "json", double = "number", float = "number",
  int32 = "number", int64 = "number", uint32 = "number", uint64 = "number", sint32 = "number", sint64 = "number",
}
local TYPE_NAMES = { "string", "bytes", "bool", "int32", "int64", "uint32", "uint64", "sint32", "sint64", "double",
  "float", "json" }
local WIDE_TYPES = { int64 = true, uint64 = true, sint64 = true }
local OPTIONS = { "default", "upper", "lower", "required", "in", "min", "max", "new", "ref", "wide" }
local FLAGS = { upper = true, lower = true, required = true, wide = true }
local OPTION_SET = {}
for _, name in ipairs(OPTIONS) do OPTION_SET[name] = true end

-- Integer types and the values that fit in them.
local WHOLE = {
  int32 = { -2 ^ 31, 2 ^ 31 - 1 }, sint32 = { -2 ^ 31, 2 ^ 31 - 1 }, uint32 = { 0, 2 ^ 32 - 1 },
  int64 = { -2 ^ 53, 2 ^ 53 }, sint64 = { -2 ^ 53, 2 ^ 53 }, uint64 = { 0, 2 ^ 53 },
}
local MAX_NUMBER, RESERVED_FIRST, RESERVED_LAST = 2 ^ 29 - 1, 19000, 19999
local MAX_FIELDS = 128

local M = {}

---Whether a field's value is text ("text"), "number", "bool" or "json".
function M.kind(field)
  return TYPES[field.type]
end

local function quoted_hint(word, candidates)
  local found = suggest.closest(word, candidates)
  return found and (" (did you mean '" .. found .. "'?)") or ""
end

local Reader = {}
Reader.__index = Reader

function Reader:problem(line, name, text)
  local subject = name and ("payload field '" .. name .. "': ") or "payload: "
  self.problems[#self.problems + 1] = { line = line, text = subject .. text }
end

-- Tokens of the list: words, numbers, strings, punctuation; each with its line.
local function split(text)
  local tokens, pos, line = {}, 1, 1
  while pos <= #text do
    local c = text:sub(pos, pos)
    local piece
    if c == "\n" then
      line, pos = line + 1, pos + 1
    elseif c:find("%s") then
      pos = pos + 1
    elseif text:sub(pos, pos + 1) == "//" then
      pos = text:find("\n", pos, true) or #text + 1
    elseif text:sub(pos, pos + 1) == "/*" then
      local _, stop = text:find("*/", pos + 2, true)
      local comment = text:sub(pos, stop or #text)
      line, pos = line + select(2, comment:gsub("\n", "")), pos + #comment
    else
      piece = text:match('^"[^"\n]*"', pos) or text:match("^[%a_][%w_]*", pos)
        or text:match("^[%+%-]?%.?%d[%w%.]*", pos) or c
      tokens[#tokens + 1] = { text = piece, line = line }
      pos = pos + #piece
    end
  end
  return tokens, line
end

function Reader:peek()
  local token = self.tokens[self.at]
  return token and token.text
end

function Reader:take()
  local token = self.tokens[self.at]
  self.at = self.at + 1
  return token and token.text, token and token.line or self.last_line
end

-- Skips to the field after the next `;`.
function Reader:recover()
  while self.tokens[self.at] and self:peek() ~= ";" do self.at = self.at + 1 end
  self.at = self.at + 1
end

local function read_type(self, field, word, line)
  if word == "map" then
    local a, key, comma, value, b = self:take(), self:take(), self:take(), self:take(), self:take()
    if a ~= "<" or comma ~= "," or b ~= ">" or not value then
      self:problem(line, nil, "a map is written map<string, type>")
      return false
    end
    if key ~= "string" then
      self:problem(line, nil, "map keys must be string, not '" .. tostring(key) .. "'")
      return false
    end
    field.map, word = true, value
  end
  field.type = word
  return true
end

local function literal(text)
  if text == nil then return nil end
  if text:sub(1, 1) == '"' then return text:sub(2, -2) end
  if text == "true" then return true end
  if text == "false" then return false end
  return tonumber(text)
end

local function add_option(self, field, name, value, line)
  if not OPTION_SET[name] then
    self:problem(line, field.name, "unknown option '" .. name .. "'" .. quoted_hint(name, OPTIONS))
  elseif field[name == "in" and "one_of" or name] ~= nil then
    self:problem(line, field.name, "option '" .. name .. "' is given twice")
  elseif FLAGS[name] then
    if value ~= nil then self:problem(line, field.name, "option '" .. name .. "' takes no value") end
    field[name] = true
  elseif value == nil then
    self:problem(line, field.name, "option '" .. name .. "' needs a value")
  elseif name == "in" then
    field.one_of = {}
    for word in (tostring(value) .. "|"):gmatch("([^|]*)|") do field.one_of[#field.one_of + 1] = word end
    if value == "" then self:problem(line, field.name, "option 'in' names no word") end
  else
    field[name] = value
  end
end

local function read_options(self, field)
  repeat
    local name, line = self:take()
    if name == nil or name == "]" then return name == "]" end
    local value
    if self:peek() == "=" then
      self:take()
      local text = self:take()
      if name == "new" or name == "ref" then value = text else value = literal(text) end
      if value == nil and text then
        self:problem(line, field.name, "option '" .. name .. "': '" .. text .. "' is not a value")
        value = 0
      end
    end
    add_option(self, field, name, value, line)
    local next_text = self:take()
    if next_text == "]" then return true end
  until next_text ~= ","
  return false
end

-- Why a default of the right kind can never be accepted; nil when it can.
local function misfit(field)
  local value, size = field.default, field.default
  local whole = WHOLE[field.type]
  if whole and (value % 1 ~= 0 or value < whole[1] or value > whole[2]) then
    return "is no " .. field.type
  elseif type(value) == "string" then
    if field.upper then value = value:upper() elseif field.lower then value = value:lower() end
    size = #value
  end
  for _, word in ipairs(field.one_of or {}) do
    if word == value then return nil end
  end
  if field.one_of then return "is not one of " .. table.concat(field.one_of, ", ") end
  if type(size) ~= "number" then return nil end
  if type(field.min) == "number" and size < field.min then return "is below min" end
  if type(field.max) == "number" and size > field.max then return "is above max" end
  return nil
end

local function check_default(self, field)
  local kind, value = M.kind(field), field.default
  if value == nil then return end
  if field.repeated or field.map or kind == "json" then
    self:problem(field.line, field.name, "a repeated, map or json field has no default")
  elseif (kind == "text" and type(value) ~= "string") or (kind == "number" and type(value) ~= "number")
    or (kind == "bool" and type(value) ~= "boolean") then
    self:problem(field.line, field.name, "the default does not fit the type '" .. field.type .. "'")
  else
    local text = misfit(field)
    if text then self:problem(field.line, field.name, "the default " .. text) end
  end
end

local function check_options(self, field)
  local kind = M.kind(field)
  check_default(self, field)
  for _, name in ipairs({ "min", "max" }) do
    local bound = field[name]
    if bound ~= nil and type(bound) ~= "number" then
      self:problem(field.line, field.name, "option '" .. name .. "' must be a number")
      field[name] = nil
    elseif bound ~= nil and (kind == "bool" or kind == "json") and not field.repeated then
      self:problem(field.line, field.name, "option '" .. name .. "' does not apply to " .. field.type)
    end
  end
  if field.min and field.max and field.min > field.max then
    self:problem(field.line, field.name, "option 'min' is above 'max'")
  end
  if field.upper and field.lower then
    self:problem(field.line, field.name, "options 'upper' and 'lower' exclude each other")
  end
  for _, name in ipairs({ "upper", "lower", "one_of" }) do
    if field[name] and field.type ~= "string" then
      self:problem(field.line, field.name, "option '" .. (name == "one_of" and "in" or name) .. "' applies to strings")
      field[name] = nil
    end
  end
  for _, name in ipairs({ "new", "ref" }) do
    local value = field[name]
    if value ~= nil and not (type(value) == "string" and value:find("^[%a_][%w_]*$")) then
      self:problem(field.line, field.name, "option '" .. name .. "' names a field of the state")
      field[name] = nil
    elseif value and (field.type ~= "string" or field.repeated or field.map) then
      self:problem(field.line, field.name, "option '" .. name .. "' applies to single strings")
    end
  end
  if field.wide and not WIDE_TYPES[field.type] then
    self:problem(field.line, field.name, "option 'wide' applies to 64-bit integers")
  end
end

local function check_field(self, field, names, numbers)
  local number = field.number
  if not TYPES[field.type] then
    self:problem(field.line, field.name, "unknown type '" .. field.type .. "'" .. quoted_hint(field.type, TYPE_NAMES))
    return false
  end
  if not number or number < 1 or number > MAX_NUMBER or number % 1 ~= 0 then
    self:problem(field.line, field.name, "the field number must be 1 to 536870911")
    return false
  end
  if number >= RESERVED_FIRST and number <= RESERVED_LAST then
    self:problem(field.line, field.name, "the numbers 19000 to 19999 are reserved")
  end
  if names[field.name] then self:problem(field.line, field.name, "the name is used twice") end
  if numbers[number] then
    self:problem(field.line, field.name, string.format("number %d is taken by '%s'", number, numbers[number]))
  end
  names[field.name], numbers[number] = true, field.name
  check_options(self, field)
  return true
end

local function read_field(self)
  local start = self.at
  local word, line = self:take()
  local field = { line = line }
  if word == "repeated" then
    field.repeated = true
    word = self:take()
  end
  if word == nil or not word:find("^[%a_]") or not read_type(self, field, word, line) then
    if word == nil or not word:find("^[%a_]") then
      self:problem(line, nil, "a field is written `type name = number;`")
    end
    self:recover()
    return nil
  end
  local name, equals, number = self:take(), self:take(), self:take()
  field.name, field.number = name, tonumber(number)
  if not (name and name:find("^[%a_][%w_]*$")) or equals ~= "=" or not field.number then
    self:problem(line, name and name:find("^[%a_]") and name or nil, "a field is written `type name = number;`")
    self.at = start
    self:recover()
    return nil
  end
  if self:peek() == "[" then
    self:take()
    if not read_options(self, field) then
      self:problem(line, name, "options are written [ name = value, name ]")
      self:recover()
      return field
    end
  end
  local stop = self:take()
  if stop ~= ";" then
    self:problem(line, name, "';' is missing")
    if stop then self.at = self.at - 1 end
  end
  return field
end

---Parses a field list.
---@param text string
---@return table[] fields { name, number, type, repeated, map, default, upper, lower, required, one_of, min, max,
--- new, ref, wide, line }
---@return table[] problems { line (1 = first line of the text), text }
function M.parse(text)
  local self = setmetatable({ problems = {}, at = 1 }, Reader)
  self.tokens, self.last_line = split(text)
  local fields, names, numbers = {}, {}, {}
  while self.tokens[self.at] do
    local field = read_field(self)
    if field and check_field(self, field, names, numbers) then fields[#fields + 1] = field end
    if #fields > MAX_FIELDS then
      self:problem(field.line, nil, "more than " .. MAX_FIELDS .. " fields")
      break
    end
  end
  return fields, self.problems
end

return M
