-- Lexer: Lua source -> tokens with lines. Enough of the grammar for the scanner and the lint; never fails: what
-- it cannot read becomes an operator token, the compiler reports the real syntax error.

local M = {}

local KEYWORDS = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then true
  until while]]):gmatch("%a+") do
  KEYWORDS[word] = true
end

local ESCAPES = { n = "\n", t = "\t", r = "\r", a = "\a", b = "\b", f = "\f", v = "\v", ["\n"] = "\n" }

local OPERATORS = { ["..."] = true, [".."] = true, ["=="] = true, ["~="] = true, ["<="] = true, [">="] = true,
  ["::"] = true }

local function unescape(text)
  if not text:find("\\", 1, true) then return text end
  text = text:gsub("\\z%s*", "")
  text = text:gsub("\\(%d%d?%d?)", function(digits)
    local code = tonumber(digits)
    return code < 256 and "\\" .. string.format("x%02x", code) or "?"
  end)
  text = text:gsub("\\x(%x%x)", function(hex) return "\1" .. hex end)
  text = text:gsub("\\(.)", function(c) return ESCAPES[c] or c end)
  return (text:gsub("\1(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

local function count_lines(text, from, to)
  local count, at = 0, from
  while true do
    local found = text:find("\n", at, true)
    if not found or found > to then return count end
    count, at = count + 1, found + 1
  end
end

-- The end of the short string that opens at `at`: position of the closing quote, or of the last character.
local function short_string_end(text, at, quote)
  local pos = at + 1
  while pos <= #text do
    local c = text:sub(pos, pos)
    if c == "\\" then
      pos = pos + 2
    elseif c == quote or c == "\n" then
      return pos
    else
      pos = pos + 1
    end
  end
  return #text
end

local Lexer = {}
Lexer.__index = Lexer

function Lexer:add(kind, text, value_line)
  self.tokens[#self.tokens + 1] = { kind = kind, text = text, line = self.line, value_line = value_line }
end

-- Moves behind the character at `to`, counting lines.
function Lexer:advance(to)
  self.line = self.line + count_lines(self.source, self.pos, to)
  self.pos = to + 1
end

function Lexer:skip_line()
  self:advance((self.source:find("\n", self.pos, true) or #self.source + 1) - 1)
end

-- [[text]] or --[[comment]], with `level` equals signs.
function Lexer:long_bracket(level, is_comment)
  local source = self.source
  local open = self.pos + #level + (is_comment and 4 or 2)
  local _, close = source:find("]" .. level .. "]", open, true)
  close = close or #source
  if not is_comment then
    local first = source:match("^\r?\n()", open) or open
    self:add("string", source:sub(first, close - #level - 2), self.line + count_lines(source, open, first - 1))
  end
  self:advance(close)
end

-- Reads a token that stands on one line: name, number or operator.
function Lexer:plain(first)
  local source, pos = self.source, self.pos
  local text
  if first:find("[%a_]") then
    text = source:match("^[%w_]+", pos)
    self:add(KEYWORDS[text] and "keyword" or "name", text)
  elseif source:find("^%.?%d", pos) then
    text = source:match("^0[xX][%x%.pP]+", pos) or source:match("^[%d%.]+[eE][%+%-]?%d+", pos)
      or source:match("^[%d%.]+", pos)
    self:add("number", text)
  else
    local three, two = source:sub(pos, pos + 2), source:sub(pos, pos + 1)
    text = OPERATORS[three] and three or OPERATORS[two] and two or first
    self:add("op", text)
  end
  self.pos = pos + #text
end

---Tokens of a Lua source. Each token: { kind = "name|keyword|string|number|op|eof", text, line }; strings have the
---decoded value as text and `value_line`, the line on which the value's first character stands.
---@param source string
---@return table[]
function M.tokens(source)
  local self = setmetatable({ source = source, tokens = {}, pos = 1, line = 1 }, Lexer)
  if source:sub(1, 1) == "#" then self:skip_line() end
  while true do
    local blank_end = select(2, source:find("^%s+", self.pos))
    if blank_end then self:advance(blank_end) end
    if self.pos > #source then break end
    local pos, first = self.pos, source:sub(self.pos, self.pos)
    local level = source:match("^%[(=*)%[", pos) or source:match("^%-%-%[(=*)%[", pos)
    if level then
      self:long_bracket(level, first == "-")
    elseif first == "-" and source:sub(pos + 1, pos + 1) == "-" then
      self:skip_line()
    elseif first == '"' or first == "'" then
      local close = short_string_end(source, pos, first)
      self:add("string", unescape(source:sub(pos + 1, close - 1)), self.line)
      self:advance(close)
    else
      self:plain(first)
    end
  end
  self:add("eof", "")
  local last = self.tokens[#self.tokens]
  return setmetatable(self.tokens, { __index = function() return last end }) -- looking past an end is harmless
end

return M
