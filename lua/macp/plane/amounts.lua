-- Amounts that agents tell: tokens, milliseconds, dollars. What is no number, negative or beyond any measurement counts
-- as nothing, so that sums stay exact and fit into the database whatever is told.

local MAX = 1e9 -- of one event: 10^9 tokens, 11 days, 10^9 USD

local floor = math.floor

local M = { MAX = MAX }

---A measurement as it was told, nil when it is none.
---@param value any
---@return number|nil
function M.measured(value)
  if type(value) == "number" and value >= 0 and value <= MAX then return value end
  return nil
end

---A count, whole; 0 when it is none.
---@param value any
---@return integer
function M.count(value)
  if type(value) == "number" and value >= 1 and value <= MAX then return floor(value) end
  return 0
end

return M
