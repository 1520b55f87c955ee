-- "Did you mean": the candidate closest to a mistyped word.

local M = {}

-- Optimal string alignment distance: insert, delete, replace and swap of neighbours cost one each.
local function distance(left, right)
  local before_previous, previous = {}, {}
  for k = 0, #right do previous[k] = k end
  for i = 1, #left do
    local current = { [0] = i }
    for k = 1, #right do
      local same = left:byte(i) == right:byte(k)
      local best = math.min(previous[k] + 1, current[k - 1] + 1, previous[k - 1] + (same and 0 or 1))
      local swapped = i > 1 and k > 1 and left:byte(i) == right:byte(k - 1) and left:byte(i - 1) == right:byte(k)
      if swapped then best = math.min(best, before_previous[k - 2] + 1) end
      current[k] = best
    end
    before_previous, previous = previous, current
  end
  return previous[#right]
end

---The closest candidate, or nil when none is close enough to be what was meant.
---@param word string
---@param candidates string[]
---@return string|nil
function M.closest(word, candidates)
  if #word > 64 then return nil end
  local lower = word:lower()
  local found, found_distance
  for _, candidate in ipairs(candidates) do
    if #candidate <= 64 then
      local cost = distance(lower, candidate:lower())
      local limit = math.max(1, math.floor(math.max(#word, #candidate) / 3))
      if cost <= limit and (found == nil or cost < found_distance) then
        found, found_distance = candidate, cost
      end
    end
  end
  return found
end

---" (did you mean `x`?)" or "".
function M.hint(word, candidates)
  local found = M.closest(word, candidates)
  return found and (" (did you mean `" .. found .. "`?)") or ""
end

return M
