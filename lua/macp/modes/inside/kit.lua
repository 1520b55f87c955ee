-- Kit: what `require "macp"` gives to a mode. Everything iterates in key order; predicates get (value, key).

local native = native
local sandbox = require("macp.modes.inside.sandbox")

local ordered = sandbox.pairs

local M = {}

-- level is that of the mode's call, seen from here.
local function need(value, kind, name, level)
  if type(value) ~= kind then error("macp." .. name .. " needs a " .. kind .. ", not " .. type(value), level) end
  return value
end

local function each(tbl, name)
  return ordered(need(tbl, "table", name, 4))
end

---How many values; with a predicate how many of them pass.
function M.count(tbl, fn)
  need(tbl, "table", "count", 3)
  local n = 0
  if fn == nil then
    for _ in next, tbl do n = n + 1 end
    return n
  end
  for key, value in ordered(tbl) do
    if fn(value, key) then n = n + 1 end
  end
  return n
end

---Whether one value passes.
function M.any(tbl, fn)
  for key, value in each(tbl, "any") do
    if fn(value, key) then return true end
  end
  return false
end

---Whether all values pass; true for none.
function M.all(tbl, fn)
  for key, value in each(tbl, "all") do
    if not fn(value, key) then return false end
  end
  return true
end

---The first value (and its key) that passes.
function M.find(tbl, fn)
  for key, value in each(tbl, "find") do
    if fn(value, key) then return value, key end
  end
  return nil
end

---The sum of the values, or of fn(value, key).
function M.sum(tbl, fn)
  local total = 0
  for key, value in each(tbl, "sum") do total = total + (fn and fn(value, key) or value) end
  return total
end

local function best_by(tbl, fn, name, better)
  local best, best_key, best_score
  for key, value in each(tbl, name) do
    local score = fn(value, key)
    if best_score == nil or better(score, best_score) then best, best_key, best_score = value, key, score end
  end
  return best, best_key, best_score
end

---The value with the highest fn(value, key), its key and the score; the first in key order wins a tie.
function M.max_by(tbl, fn)
  return best_by(tbl, fn, "max_by", function(a, b) return a > b end)
end

---The value with the lowest fn(value, key), its key and the score; the first in key order wins a tie.
function M.min_by(tbl, fn)
  return best_by(tbl, fn, "min_by", function(a, b) return a < b end)
end

---fn(value, key) under the same keys.
function M.map(tbl, fn)
  local out = {}
  for key, value in each(tbl, "map") do out[key] = fn(value, key) end
  return out
end

---Arrays stay arrays without holes; maps keep their keys.
function M.filter(tbl, fn)
  local out, is_array = {}, need(tbl, "table", "filter", 3)[1] ~= nil
  for key, value in ordered(tbl) do
    if fn(value, key) then
      if is_array then out[#out + 1] = value else out[key] = value end
    end
  end
  return out
end

---The keys as an array.
function M.keys(tbl)
  local out = {}
  for key in each(tbl, "keys") do out[#out + 1] = key end
  return out
end

---The values as an array, in the order of their keys.
function M.values(tbl)
  local out = {}
  for _, value in each(tbl, "values") do out[#out + 1] = value end
  return out
end

---Whether a value is among the values.
function M.contains(tbl, wanted)
  for _, value in next, need(tbl, "table", "contains", 3) do
    if value == wanted then return true end
  end
  return false
end

---Whether there are no values.
function M.empty(tbl)
  return next(need(tbl, "table", "empty", 3)) == nil
end

M.copy = sandbox.copy

---Exact text of an integral number.
function M.int(n)
  if type(n) ~= "number" or n % 1 ~= 0 then error("macp.int needs a whole number", 2) end
  return n == 0 and "0" or string.format("%.0f", n)
end

---n with that many digits behind the point (0), halves upwards.
function M.round(n, digits)
  need(n, "number", "round", 3)
  local factor = 10 ^ (digits or 0)
  return math.floor(n * factor + 0.5) / factor
end

---text without white space at its ends.
function M.trim(text)
  return need(text, "string", "trim", 3):match("^%s*(.-)%s*$")
end

M.sha256 = native.sha256_hex
M.hex = native.hex
M.base64 = native.base64_encode

---Canonical JSON: sorted keys, no white space.
function M.json_encode(value)
  return native.json_encode(value, true)
end

M.json_decode = native.json_decode

---Marks a list so that JSON shows [] even when it is empty.
M.array = native.array

local lines = {}

---A line for the debug log; dropped during replay.
function M.log(format, ...)
  local line = select("#", ...) > 0 and string.format(format, ...) or tostring(format)
  if #lines < 100 then lines[#lines + 1] = line end
end

local P = { table = M }

---The lines logged since the last call.
function P.take_log()
  if #lines == 0 then return nil end
  local out = lines
  lines = {}
  return out
end

P.public = sandbox.readonly(M, "macp")

return P
