-- Regular expressions, read: the text of an expression becomes a tree of byte sets. Known are literals, . [] [^] \d \w \s
-- and their opposites, \b \B ^ $, groups, | and the quantifiers ? * + {n} {n,} {n,m}; (?i) in front ignores case. What a
-- matcher without backtracking cannot do (back references, looking around) is refused.

local MAX_REPEAT = 1000
local MAX_DEPTH = 50

local M = {}

local function set_of(...)
  local set = {}
  for _, range in ipairs({ ... }) do
    for byte = range[1], range[2] do set[byte] = true end
  end
  return { set = set }
end

local TAIL = set_of({ 0x80, 0xBF })
-- One character beyond ASCII.
local WIDE = { alt = {
  { cat = { set_of({ 0xC2, 0xDF }), TAIL } }, { cat = { set_of({ 0xE0, 0xEF }), TAIL, TAIL } },
  { cat = { set_of({ 0xF0, 0xF4 }), TAIL, TAIL, TAIL } },
} }
local DIGIT = set_of({ 48, 57 }).set
local WORD = set_of({ 48, 57 }, { 65, 90 }, { 95, 95 }, { 97, 122 }).set
local SPACE = set_of({ 9, 13 }, { 32, 32 }).set
local CLASSES = { d = DIGIT, w = WORD, s = SPACE }
local CONTROLS = { n = 10, r = 13, t = 9, f = 12, v = 11 }

local function complement(set)
  local out = {}
  for byte = 0, 127 do out[byte] = not set[byte] or nil end
  return out
end

local function fail(p, what) error({ reason = string.format("%s at position %d", what, p.at) }, 0) end

local function peek(p) return p.text:sub(p.at, p.at) end

local function take(p, word)
  if p.text:sub(p.at, p.at + #word - 1) ~= word then return false end
  p.at = p.at + #word
  return true
end

-- A whole character: one byte, or several beyond ASCII.
local function character(p)
  local found = p.text:match("^[%z\1-\127\192-\255][\128-\191]*", p.at)
  if found == nil then fail(p, "the expression is not UTF-8") end
  p.at = p.at + #found
  return found
end

local function literal(p, char)
  if #char > 1 then
    local list = {}
    for i = 1, #char do list[i] = { set = { [char:byte(i)] = true } } end
    return { cat = list }
  end
  local set = { [char:byte()] = true }
  if p.ignore_case then set[char:lower():byte()], set[char:upper():byte()] = true, true end
  return { set = set }
end

-- What follows a backslash: a byte, or a class and whether it is the opposite.
local function escape(p)
  local char = character(p)
  local class = CLASSES[char:lower()]
  if class then return nil, class, char ~= char:lower() end
  if CONTROLS[char] then return string.char(CONTROLS[char]) end
  if char == "x" then
    local hex = p.text:match("^[0-7]%x", p.at)
    if hex == nil then fail(p, "\\x needs two hexadecimal digits below 80") end
    p.at = p.at + 2
    return string.char(tonumber(hex, 16))
  end
  if char:find("%w") then fail(p, "\\" .. char .. " is not known") end
  return char
end

local function class_item(p)
  if take(p, "\\") then
    if p.at > #p.text then fail(p, "a backslash ends the expression") end
    return escape(p)
  end
  return character(p)
end

local function add_range(p, set, from, to)
  if #from > 1 or #to > 1 then fail(p, "a range beyond ASCII is not supported") end
  if from:byte() > to:byte() then fail(p, "a range runs backwards") end
  for byte = from:byte(), to:byte() do
    set[byte] = true
    if p.ignore_case then
      set[string.char(byte):lower():byte()], set[string.char(byte):upper():byte()] = true, true
    end
  end
end

local function bracket(p)
  local negated, set, wide, first = take(p, "^"), {}, {}, true
  while first or peek(p) ~= "]" do
    if p.at > #p.text then fail(p, "] is missing") end
    first = false
    local char, class, opposite = class_item(p)
    if class then
      for byte in pairs(opposite and complement(class) or class) do set[byte] = true end
      if opposite then wide[#wide + 1] = WIDE end
    elseif #char > 1 then
      wide[#wide + 1] = literal(p, char)
    elseif peek(p) == "-" and p.text:sub(p.at + 1, p.at + 1) ~= "]" then
      p.at = p.at + 1
      local to = class_item(p)
      if to == nil then fail(p, "a range ends with a class") end
      add_range(p, set, char, to)
    else
      add_range(p, set, char, char)
    end
  end
  p.at = p.at + 1
  if not negated then return #wide == 0 and { set = set } or { alt = { { set = set }, unpack(wide) } } end
  if #wide > 0 then fail(p, "[^ ] with characters beyond ASCII is not supported") end
  return { alt = { { set = complement(set) }, WIDE } }
end

local alternatives

local function group(p)
  if take(p, "?") and not take(p, ":") then fail(p, "this kind of group is not supported") end
  p.depth = p.depth + 1
  if p.depth > MAX_DEPTH then fail(p, "groups are nested too deeply") end
  local node = alternatives(p)
  if not take(p, ")") then fail(p, ") is missing") end
  p.depth = p.depth - 1
  return node
end

local function atom(p)
  if take(p, "(") then return group(p) end
  if take(p, "[") then return bracket(p) end
  if take(p, ".") then return { alt = { { set = complement({ [10] = true }) }, WIDE } } end
  if take(p, "^") then return { assert = "^" } end
  if take(p, "$") then return { assert = "$" } end
  if take(p, "\\b") then return { assert = "b" } end
  if take(p, "\\B") then return { assert = "B" } end
  if peek(p):find("[*+?]") then fail(p, "there is nothing to repeat") end
  local char, class, opposite = class_item(p)
  if class == nil then return literal(p, char) end
  if opposite then return { alt = { { set = complement(class) }, WIDE } } end
  return { set = class }
end

local function quantifier(p)
  if take(p, "*") then return 0, nil end
  if take(p, "+") then return 1, nil end
  if take(p, "?") then return 0, 1 end
  local low, comma, high = p.text:match("^{(%d+)(,?)(%d*)}", p.at)
  if low == nil then return nil end
  p.at = p.text:find("}", p.at, true) + 1
  low, high = tonumber(low), comma == "" and tonumber(low) or tonumber(high)
  if low > MAX_REPEAT or (high or 0) > MAX_REPEAT then fail(p, "more than " .. MAX_REPEAT .. " repetitions") end
  if high and high < low then fail(p, "a repetition runs backwards") end
  return low, high
end

local function repeated(p)
  local node = atom(p)
  while true do
    local at = p.at
    local low, high = quantifier(p)
    if p.at == at then return node end
    if node.assert then fail(p, "there is nothing to repeat") end
    take(p, "?") -- lazy or not: every match is the longest
    node = { rep = node, low = low, high = high }
  end
end

local function sequence(p)
  local list = {}
  while p.at <= #p.text and not peek(p):find("[|)]") do list[#list + 1] = repeated(p) end
  return { cat = list }
end

function alternatives(p)
  local list = { sequence(p) }
  while take(p, "|") do list[#list + 1] = sequence(p) end
  return #list == 1 and list[1] or { alt = list }
end

-- Whether an expression can match without consuming anything.
local function is_nullable(node)
  if node.set then return false end
  if node.assert then return true end
  if node.rep then return node.low == 0 or is_nullable(node.rep) end
  for _, child in ipairs(node.cat or node.alt) do
    local nullable = is_nullable(child)
    if node.alt and nullable then return true end
    if node.cat and not nullable then return false end
  end
  return node.cat ~= nil
end

---Reads an expression.
---@param text string
---@return table|nil tree of { set }, { cat }, { alt }, { rep, low, high }, { assert }
---@return string|nil reason
function M.parse(text)
  local p = { text = text, at = 1, depth = 0, ignore_case = false }
  if take(p, "(?i)") then p.ignore_case = true end
  local ok, node = pcall(alternatives, p)
  if not ok and type(node) == "table" then return nil, node.reason end
  if not ok then error(node, 0) end
  if p.at <= #text then return nil, "a ) too many at position " .. p.at end
  if is_nullable(node) then return nil, "the expression also matches where there is nothing" end
  return node
end

M.WORD = WORD

return M
