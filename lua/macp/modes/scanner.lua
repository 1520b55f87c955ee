-- Scanner: where each key of the returned table stands. A file of a mode ends with `return { ... }`; this maps key
-- paths of that constructor ("messages.Open.needs[1]") to lines, so that ordinary tables give located errors.

local lexer = require("macp.modes.lexer")

local MAX_DEPTH = 24

local M = {}

local OPENERS = { ["function"] = true, ["if"] = true, ["do"] = true, ["repeat"] = true }
local CLOSERS = { ["end"] = true, ["until"] = true }

---The path of a key below a path: "a.b", 'a["x.y"]', "a[1]".
---@param path string
---@param key string|number
---@return string
function M.join(path, key)
  if type(key) == "number" then return string.format("%s[%d]", path, key) end
  if key:find("^[%a_][%w_]*$") then return path == "" and key or path .. "." .. key end
  return string.format("%s[%q]", path, key)
end

local Map = {}
Map.__index = Map

-- Index of the token after the expression that starts at i; ends at `,` `;` or the closing bracket.
local function skip_expression(tokens, i)
  local depth = 0
  while true do
    local token = tokens[i]
    local text = token.text
    if token.kind == "eof" then return i end
    if token.kind == "op" then
      if depth == 0 and (text == "," or text == ";" or text == "}") then return i end
      if text == "{" or text == "(" or text == "[" then depth = depth + 1 end
      if text == "}" or text == ")" or text == "]" then depth = depth - 1 end
    elseif token.kind == "keyword" then
      if OPENERS[text] then depth = depth + 1 end
      if CLOSERS[text] then depth = depth - 1 end
    end
    i = i + 1
  end
end

-- A file that breaks off has no token behind its end.
local function is_op(token, text)
  return token ~= nil and token.kind == "op" and token.text == text
end

-- Reads the key of an entry at i. Returns key (nil: positional), index of the value.
local function read_key(tokens, i)
  local token, after = tokens[i], tokens[i + 1]
  if token.kind == "name" and is_op(after, "=") then return token.text, i + 2 end
  if is_op(token, "[") and tokens[i + 2] and is_op(tokens[i + 2], "]") and is_op(tokens[i + 3], "=") then
    if after.kind == "string" then return after.text, i + 4 end
    if after.kind == "number" then return tonumber(after.text) or after.text, i + 4 end
  end
  return nil, i
end

local scan_table

local function scan_value(self, tokens, i, path, depth)
  local token, after = tokens[i], tokens[i + 1]
  if after == nil then return i end
  if token.kind == "string" and after.kind == "op" and (after.text == "," or after.text == "}"
    or after.text == ";") then
    self.value_lines[path] = token.value_line
    return i + 1
  end
  if is_op(token, "{") then
    local stop = scan_table(self, tokens, i, path, depth + 1)
    return skip_expression(tokens, stop)
  end
  local ends = after.kind == "op" and (after.text == "," or after.text == "}" or after.text == ";")
  if token.kind == "name" and ends and self.locals[token.text] then
    local at = self.locals[token.text]
    if depth < MAX_DEPTH then scan_table(self, self.tokens, at, path, depth + 1) end
    return i + 1
  end
  return skip_expression(tokens, i)
end

-- Records the constructor whose `{` is token i; returns the index after its `}`.
function scan_table(self, tokens, i, path, depth)
  local position, order = 0, {}
  self.order[path] = order
  i = i + 1
  while not is_op(tokens[i], "}") and tokens[i].kind ~= "eof" do
    local at = i
    local key, value = read_key(tokens, i)
    if key == nil and is_op(tokens[i], "[") then
      i = skip_expression(tokens, i)
    else
      if key == nil then
        position = position + 1
        key = position
      end
      order[#order + 1] = key
      local child = M.join(path, key)
      self.lines[child] = tokens[at].line
      i = depth < MAX_DEPTH and scan_value(self, tokens, value, child, depth) or skip_expression(tokens, value)
    end
    if is_op(tokens[i], ",") or is_op(tokens[i], ";") then i = i + 1 end
  end
  return i + 1
end

-- The chunk's own `local name = {` constructors and its last `return`.
local function survey(self)
  local tokens, depth = self.tokens, 0
  local result
  for i = 1, #tokens do
    local token = tokens[i]
    if token.kind == "keyword" then
      if depth == 0 and token.text == "return" then result = i + 1 end
      if depth == 0 and token.text == "local" and tokens[i + 1].kind == "name" and is_op(tokens[i + 2], "=")
        and is_op(tokens[i + 3], "{") then
        self.locals[tokens[i + 1].text] = i + 3
      end
      if OPENERS[token.text] then depth = depth + 1 end
      if CLOSERS[token.text] then depth = depth - 1 end
    end
  end
  return result
end

---Scans one file.
---@param source string
---@return table map with :line(path), :order_of(path) and the tokens
function M.scan(source)
  local self = setmetatable({ tokens = lexer.tokens(source), lines = {}, value_lines = {}, order = {}, locals = {},
    return_line = 1 }, Map)
  local at = survey(self)
  if at then
    local token = self.tokens[at]
    self.return_line = token.line
    if token.kind == "name" then at = self.locals[token.text] end
    if at and is_op(self.tokens[at], "{") then scan_table(self, self.tokens, at, "", 0) end
  end
  return self
end

local Lazy = {}

-- Scans at the first question; a file without problems is never scanned.
function Lazy.__index(self, name)
  local map = M.scan(rawget(self, "source"))
  setmetatable(self, { __index = map })
  return map[name]
end

---A map that scans when it is asked for the first time.
---@param source string
function M.lazy(source)
  return setmetatable({ source = source }, Lazy)
end

---The line of a key path; of its closest known parent when the key itself is not written in the constructor.
function Map:line(path)
  while path ~= "" do
    local line = self.lines[path]
    if line then return line end
    path = path:match("^(.*)%[[^%[%]]*%]$") or path:match("^(.*)%.[^%.]*$") or ""
  end
  return self.return_line
end

---The line of the n-th line of a string value.
function Map:text_line(path, n)
  local line = self.value_lines[path]
  return line and line + (n or 1) - 1 or self:line(path)
end

---Keys of the constructor at a path, as written; nil when that table is not written as a constructor.
function Map:order_of(path)
  return self.order[path]
end

return M
