-- The bar: how many approvals a request needs. The mode and its policy ask the same functions.
local M = {}

-- Approvals that the policy demands: nil when it leaves that to the request, math.huge when no number satisfies it.
function M.override(c)
  local threshold = c.rules.threshold
  local value = threshold.value
  if value == nil or value <= 0 then return nil end
  if threshold.type == "n_of_m" then return math.max(1, math.ceil(value)) end
  if threshold.type == "percentage" then return math.max(1, math.floor((value * c.n + 99) / 100)) end
  return math.huge
end

-- Approvals that a request of so many needs.
function M.of(required_approvals, c)
  return M.override(c) or required_approvals
end

-- Whether enough have approved; whether enough still could.
function M.is_reached(s, c)
  return s.request ~= nil and s.tally.approve >= M.of(s.request.required_approvals, c)
end

function M.is_reachable(s, c)
  return s.tally.approve + c.n - s.tally.ballots >= M.of(s.request.required_approvals, c)
end

return M
