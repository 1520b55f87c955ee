-- Small helpers on tables that several rooms need.

local M = {}

---Keys, sorted (numbers before strings).
function M.sorted_keys(t)
  local keys = {}
  for key in pairs(t) do keys[#keys + 1] = key end
  table.sort(keys, function(left, right)
    local left_type, right_type = type(left), type(right)
    if left_type ~= right_type then return left_type == "number" end
    return left < right
  end)
  return keys
end

---A shallow copy.
function M.copy(t)
  local out = {}
  for key, value in pairs(t) do out[key] = value end
  return out
end

---A deep copy of plain data; metatables (array marks) are kept.
function M.deep_copy(value)
  if type(value) ~= "table" then return value end
  local out = {}
  for key, item in pairs(value) do out[key] = M.deep_copy(item) end
  return setmetatable(out, getmetatable(value))
end

---Puts the fields of `source` into `target` and returns it.
function M.assign(target, source)
  for key, value in pairs(source) do target[key] = value end
  return target
end

---{ "a", "b" } -> { a = true, b = true }
function M.set(list)
  local out = {}
  for _, value in ipairs(list) do out[value] = true end
  return out
end

---Structural equality of plain data.
function M.equal(left, right)
  if left == right then return true end
  if type(left) ~= "table" or type(right) ~= "table" then return false end
  for key, value in pairs(left) do
    if not M.equal(value, right[key]) then return false end
  end
  for key in pairs(right) do
    if left[key] == nil then return false end
  end
  return true
end

---Number of keys.
function M.count(t)
  local n = 0
  for _ in pairs(t) do n = n + 1 end
  return n
end

return M
