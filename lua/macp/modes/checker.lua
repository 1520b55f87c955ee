-- Checker: collects located problems about one file of a mode folder. It sees the returned table as plain data
-- (functions are the marker FUNCTION) and asks the scanner where a key path stands.

local suggest = require("macp.core.suggest")
local scanner = require("macp.modes.scanner")

local M = {}

-- How inside/boot.lua shows what is not plain data.
M.FUNCTION = "\0function"
M.CYCLE = "\0cycle"

local Checker = {}
Checker.__index = Checker

---@param file string shown in problems, e.g. "modes/auction/mode.lua"
---@param map table|nil scanner map of that file
---@param problems table[] receives { path, line, key, text, rule, severity }
function M.new(file, map, problems)
  return setmetatable({ file = file, map = map, problems = problems }, Checker)
end

M.join = scanner.join

---" (did you mean 'x'?)" or "".
function M.hint(word, candidates)
  local words = {}
  for _, candidate in ipairs(candidates) do
    if type(candidate) == "string" then words[#words + 1] = candidate end
  end
  local found = suggest.closest(tostring(word), words)
  return found and (" (did you mean '" .. found .. "'?)") or ""
end

---What a value is, in an author's words.
function M.describe(value)
  if value == nil then return "nothing" end
  if value == M.FUNCTION then return "a function" end
  if type(value) == "string" then return "a string" end
  if type(value) == "table" then return "a table" end
  if type(value) == "number" and value % 1 ~= 0 then return tostring(value) end
  return "a " .. type(value)
end

function Checker:line(path)
  return self.map and self.map:line(path) or 1
end

function Checker:problem(path, text, rule, line)
  self.problems[#self.problems + 1] = { path = self.file, line = line or self:line(path), key = path ~= "" and path
    or nil,
    text = text, rule = rule, severity = "error" }
end

function Checker:warning(path, text, rule, line)
  self:problem(path, text, rule, line)
  self.problems[#self.problems].severity = "warning"
end

---Refuses keys that are not in the list.
function Checker:keys(tbl, path, known)
  local set = {}
  for _, name in ipairs(known) do set[name] = true end
  local names = {}
  for key in pairs(tbl) do names[#names + 1] = key end
  table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
  for _, key in ipairs(names) do
    if not set[key] then
      local text = type(key) == "number" and "unexpected array entry" or "unknown field" .. M.hint(key, known)
      self:problem(M.join(path, key), text, "unknown-field")
    end
  end
end

local function is_kind(value, kind)
  if kind == "function" then return value == M.FUNCTION end
  if value == M.FUNCTION or value == M.CYCLE then return false end
  if kind == "integer" then return type(value) == "number" and value % 1 == 0 end
  return type(value) == kind
end

M.is_kind = is_kind

local ARTICLES = { string = "a string", table = "a table", number = "a number", boolean = "true or false",
  integer = "a whole number", ["function"] = "a function" }

---The value when it has the kind; nil (and a problem) otherwise. Absent values are fine unless required.
---@param kind string "string|table|number|integer|boolean|function"
function Checker:get(tbl, path, key, kind, required)
  local value, at = tbl[key], M.join(path, key)
  if value == nil then
    if required then self:problem(at, "is required (" .. ARTICLES[kind] .. ")", "required", self:line(path)) end
    return nil
  end
  if is_kind(value, kind) then return value end
  self:problem(at, "must be " .. ARTICLES[kind] .. ", not " .. M.describe(value), "type")
  return nil
end

---Refuses what `ipairs` would pass over: named entries, holes, and the length that comes with them.
---@param text string "outcomes is an array without holes"
function Checker:array(tbl, path, text, rule)
  local count = 0
  for _ in ipairs(tbl) do count = count + 1 end
  local names = {}
  for key in pairs(tbl) do
    if type(key) ~= "number" or key < 1 or key > count or key % 1 ~= 0 then names[#names + 1] = key end
  end
  table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
  for _, key in ipairs(names) do self:problem(M.join(path, key), text, rule) end
end

---A required string with something in it.
function Checker:text(tbl, path, key, required)
  local value = self:get(tbl, path, key, "string", required)
  if value and not value:find("%S") then
    self:problem(M.join(path, key), "must not be blank", "required")
    return nil
  end
  return value
end

---A string out of a list.
function Checker:choice(tbl, path, key, choices, required)
  local value = self:get(tbl, path, key, "string", required)
  if value == nil then return nil end
  for _, choice in ipairs(choices) do
    if choice == value then return value end
  end
  self:problem(M.join(path, key), "must be one of " .. table.concat(choices, ", ") .. ", not '" .. value .. "'"
    .. M.hint(value, choices), "choice")
  return nil
end

---Keys of a table in source order when the scanner saw its constructor, else sorted.
function Checker:ordered(tbl, path)
  local keys, seen = {}, {}
  for _, key in ipairs(self.map and self.map:order_of(path) or {}) do
    if tbl[key] ~= nil and not seen[key] then
      keys[#keys + 1] = key
      seen[key] = true
    end
  end
  local rest = {}
  for key in pairs(tbl) do
    if not seen[key] then rest[#rest + 1] = key end
  end
  table.sort(rest, function(a, b) return tostring(a) < tostring(b) end)
  for _, key in ipairs(rest) do keys[#keys + 1] = key end
  return keys
end

return M
