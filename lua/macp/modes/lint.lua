-- Lint: what a glance at the source says about purity. Warnings only: the sandbox enforces, this explains earlier.

local MAX_EXACT = 2 ^ 53

local M = {}

-- Names a mode may use without declaring them.
local KNOWN = {}
local NAMES = "assert error ipairs pairs select tonumber tostring type unpack string table math require"
for name in NAMES:gmatch("%w+") do
  KNOWN[name] = true
end

local BRACKETS = { ["{"] = "}", ["("] = ")", ["["] = "]" }
local CLOSING = { ["}"] = true, [")"] = true, ["]"] = true }

local Linter = {}
Linter.__index = Linter

function Linter:warn(line, rule, text)
  local key = line .. rule .. text
  if self.seen[key] then return end
  self.seen[key] = true
  self.found[#self.found + 1] = { path = self.path, line = line, severity = "warning", rule = rule, text = text }
end

function Linter:push(kind)
  self.stack[#self.stack + 1] = { kind = kind, names = {} }
end

-- Leaves the innermost entry; unclosed brackets above a block are dropped with it (broken source).
function Linter:pop()
  local stack = self.stack
  while #stack > 1 and BRACKETS[stack[#stack].kind] do stack[#stack] = nil end
  if #stack > 1 then stack[#stack] = nil end
end

function Linter:declare(name)
  for i = #self.stack, 1, -1 do
    if not BRACKETS[self.stack[i].kind] then
      self.stack[i].names[name] = true
      return
    end
  end
end

-- "local", "upvalue" (declared by the chunk, used inside a function), or nil.
function Linter:resolve(name)
  local crossed = false
  for i = #self.stack, 1, -1 do
    if self.stack[i].names[name] then return (crossed and i == 1) and "upvalue" or "local" end
    if self.stack[i].kind == "function" then crossed = true end
  end
  return nil
end

function Linter:assigned(token)
  local where = self:resolve(token.text)
  if where == nil then
    self:warn(token.line, "purity.global", "assignment to the undeclared global '" .. token.text .. "'")
  elseif where == "upvalue" then
    self:warn(token.line, "purity.upvalue", "'" .. token.text
      .. "' belongs to the file and is changed inside a function: it would be shared by all sessions")
  end
end

-- Index of the first token of the assignment target that ends at i; nil when it is not a target.
local function target_start(tokens, i)
  while true do
    local token = tokens[i]
    if token.kind == "op" and token.text == "]" then
      local depth = 0
      repeat
        local text = tokens[i].text
        if tokens[i].kind == "op" then depth = depth + (text == "]" and 1 or text == "[" and -1 or 0) end
        i = i - 1
      until depth == 0 or i < 1
      if i < 1 then return nil end
    elseif token.kind == "name" then
      local before = tokens[i - 1]
      if not (before and before.kind == "op" and before.text == ".") then return i end
      i = i - 2
    else
      return nil
    end
    if i < 1 then return nil end
  end
end

-- `=` of a statement: looks at every target left of it.
function Linter:assignment(at)
  local tokens, i = self.tokens, at - 1
  while i >= 1 do
    local first = target_start(tokens, i)
    if not first then return end
    if first == i then self:assigned(tokens[i]) end
    local before = tokens[first - 1]
    if not (before and before.kind == "op" and before.text == ",") then return end
    i = first - 2
  end
end

-- Parameters of the function whose keyword is token i; returns the index after `)`.
function Linter:enter_function(i)
  local tokens = self.tokens
  i = i + 1
  local first, method = tokens[i], false
  if first.kind == "name" then
    local simple = true
    while not (tokens[i].kind == "op" and tokens[i].text == "(") and tokens[i].kind ~= "eof" do
      if tokens[i].text == ":" then method = true end
      if i > 1 and tokens[i].kind == "op" then simple = false end
      i = i + 1
    end
    if simple and not self:resolve(first.text) then self:assigned(first) end
  end
  self:push("function")
  if method then self:declare("self") end
  i = i + 1
  while tokens[i] and tokens[i].text ~= ")" and tokens[i].kind ~= "eof" do
    if tokens[i].kind == "name" then self:declare(tokens[i].text) end
    i = i + 1
  end
  return i + 1
end

-- `local a, b = ...` or `local function f`; returns the next index and remembers the `=` as no assignment.
function Linter:enter_local(i)
  local tokens = self.tokens
  i = i + 1
  if tokens[i].text == "function" and tokens[i].kind == "keyword" then
    self:declare(tokens[i + 1].text)
    return i
  end
  while tokens[i].kind == "name" do
    self:declare(tokens[i].text)
    i = i + 1
    if tokens[i].kind == "op" and tokens[i].text == "," then i = i + 1 end
  end
  if tokens[i].kind == "op" and tokens[i].text == "=" then i = i + 1 end
  return i
end

-- `for a, b in` / `for i = x, y`; the names become visible at `do`.
function Linter:enter_for(i)
  local tokens, names = self.tokens, {}
  i = i + 1
  while tokens[i].kind == "name" or tokens[i].text == "," do
    if tokens[i].kind == "name" then names[#names + 1] = tokens[i].text end
    i = i + 1
  end
  if tokens[i].text == "=" then
    local k = i
    while tokens[k].kind ~= "eof" and tokens[k].text ~= "do" do
      local number = tokens[k].kind == "number" and tonumber(tokens[k].text)
      if number and number > MAX_EXACT then
        self:warn(tokens[k].line, "purity.loop", "a numeric for beyond 2^53 never ends")
      end
      k = k + 1
    end
  end
  self.pending = names
  return i + 1
end

function Linter:keyword(i)
  local text = self.tokens[i].text
  if text == "function" then return self:enter_function(i) end
  if text == "local" then return self:enter_local(i) end
  if text == "for" then return self:enter_for(i) end
  if text == "do" or text == "then" or text == "repeat" then
    self:push("block")
    if text == "do" and self.pending then
      for _, name in ipairs(self.pending) do self:declare(name) end
      self.pending = nil
    end
  elseif text == "else" then
    self:pop()
    self:push("block")
  elseif text == "end" or text == "elseif" then
    self:pop()
  elseif text == "until" then
    local names = self.stack[#self.stack].names
    self:pop()
    for name in pairs(names) do self:declare(name) end
  end
  return i + 1
end

function Linter:name(i)
  local tokens = self.tokens
  local token, before, after = tokens[i], tokens[i - 1], tokens[i + 1]
  local previous = before and before.kind == "op" and before.text or nil
  if previous == "." or previous == ":" or previous == "::" then return end
  if before and before.kind == "keyword" and before.text == "goto" then return end
  local next_is_equal = after.kind == "op" and after.text == "="
  local top = self.stack[#self.stack].kind
  if next_is_equal and top == "{" and (previous == "{" or previous == "," or previous == ";") then return end
  if next_is_equal and top ~= "{" then return end
  if not KNOWN[token.text] and not self:resolve(token.text) then
    self:warn(token.line, "purity.name", "'" .. token.text .. "' does not exist inside a mode")
  end
end

-- `#s.votes` where votes is used as a map: counts nothing.
function Linter:length(i)
  local tokens = self.tokens
  local k, last = i + 1, nil
  while tokens[k].kind == "name" do
    last = tokens[k]
    if not (tokens[k + 1].kind == "op" and tokens[k + 1].text == ".") then break end
    k = k + 2
  end
  if last and k > i + 1 and self.maps[last.text] and tokens[k + 1].text ~= "[" then
    self:warn(last.line, "purity.length", "'#' on the map '" .. last.text .. "' (use macp.count)")
  end
end

function Linter:operator(i)
  local tokens = self.tokens
  local text, after = tokens[i].text, tokens[i + 1]
  local stack = self.stack
  if BRACKETS[text] then
    self:push(text)
  elseif CLOSING[text] then
    if BRACKETS[stack[#stack].kind] then stack[#stack] = nil end
  elseif text == "=" and not BRACKETS[stack[#stack].kind] and not self.pending then
    self:assignment(i)
  elseif text == "^" and after.kind ~= "number" then
    self:warn(tokens[i].line, "purity.power", "'^' with a computed exponent is not reproducible on every machine")
  elseif text == "#" then
    self:length(i)
  end
end

-- Fields indexed by a name or a field of one (`s.bids[by]`) are maps.
local function find_maps(tokens)
  local maps = {}
  for i = 2, #tokens - 3 do
    local dot = tokens[i - 1]
    if tokens[i].kind == "name" and dot.kind == "op" and dot.text == "." and tokens[i + 1].text == "["
      and tokens[i + 1].kind == "op" then
      local key, after = tokens[i + 2], tokens[i + 3]
      if key.kind == "string" or key.text == "by" or (key.text == "p" and after.text == ".") then
        maps[tokens[i].text] = true
      end
    end
  end
  return maps
end

---Warnings about one file.
---@param path string shown in the findings
---@param map table result of scanner.scan
---@return table[] problems
function M.check(path, map)
  local tokens = map.tokens
  local linter = setmetatable({ path = path, tokens = tokens, found = {}, seen = {}, maps = find_maps(tokens),
    stack = { { kind = "chunk", names = {} } } }, Linter)
  local i = 1
  while tokens[i].kind ~= "eof" do
    local kind = tokens[i].kind
    if kind == "keyword" then
      i = linter:keyword(i)
    else
      if kind == "name" then linter:name(i) end
      if kind == "op" then linter:operator(i) end
      i = i + 1
    end
  end
  return linter.found
end

return M
