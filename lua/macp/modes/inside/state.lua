-- State: deterministic bytes, hash, and the two disturbances that `modes check` applies to find hidden dependencies.

local native = native

local VALUE_BYTES = 9      -- the longest head of a CBOR value
local MAX_WEIGHED = 20000  -- values; a state of more is judged by what was sent

local M = {}

---Deterministic CBOR of a state; raises with the state path when it is not plain data.
function M.encode(state)
  local bytes, problem = native.cbor_encode(state, "state")
  if bytes == nil then error(problem, 0) end
  return bytes
end

---SHA-256 of the encoding, hexadecimal.
function M.hash(state)
  return native.sha256_hex(M.encode(state))
end

---The state from its encoding; raises when the bytes are not one.
function M.decode(bytes)
  local value, problem = native.cbor_decode(bytes)
  if value == nil then error("stored state: " .. tostring(problem), 0) end
  return value
end

---The number of values in a state; the budget of a Commitment grows with it.
function M.count(value)
  if type(value) ~= "table" then return 1 end
  local n = 1
  for _, item in next, value do n = n + M.count(item) end
  return n
end

local function weigh(value, left)
  if type(value) == "string" then return #value + VALUE_BYTES, left - 1 end
  if type(value) ~= "table" then return VALUE_BYTES, left - 1 end
  local sum = VALUE_BYTES
  left = left - 1
  for key, item in next, value do
    if left <= 0 then return nil, 0 end
    local weight
    weight, left = weigh(item, left)
    if weight == nil then return nil, 0 end
    sum = sum + weight + (type(key) == "string" and #key or 0)
  end
  return sum, left
end

---About how many bytes a state takes when it is encoded; nil when it has too many values to look at all of them.
---@param state table
---@return integer|nil
function M.weight(state)
  local sum = weigh(state, MAX_WEIGHED)
  return sum
end

-- A small generator of its own: the same seed gives the same order everywhere.
local function generator(seed)
  local value = seed % 2147483647
  if value <= 0 then value = 1 end
  return function(limit)
    value = (value * 16807) % 2147483647
    return value % limit + 1
  end
end

local function rebuild(value, random)
  if type(value) ~= "table" then return value end
  local keys = native.sorted_keys(value)
  for i = #keys, 2, -1 do
    local k = random(i)
    keys[i], keys[k] = keys[k], keys[i]
  end
  local out = {}
  for _, key in ipairs(keys) do out[key] = rebuild(value[key], random) end
  return native.is_array(value) and native.array(out) or out
end

---The same data in tables that were filled in another order.
function M.shuffle(state, seed)
  return rebuild(state, generator(seed))
end

return M
