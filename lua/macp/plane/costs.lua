-- What a language model call costs, in USD per million tokens; the longest matching prefix of the model name counts.

local RATES = {
  ["gpt-4o"] = { 2.50, 10.00 }, ["gpt-4o-mini"] = { 0.15, 0.60 }, ["gpt-4-turbo"] = { 10.00, 30.00 },
  ["claude-3-opus"] = { 15.00, 75.00 }, ["claude-3-sonnet"] = { 3.00, 15.00 }, ["claude-3-haiku"] = { 0.25, 1.25 },
}
local DEFAULT = { 1.00, 3.00 }

local M = {}

local function rate_of(model)
  local best, best_length = DEFAULT, 0
  for prefix, rate in pairs(RATES) do
    if #prefix > best_length and model:sub(1, #prefix) == prefix then best, best_length = rate, #prefix end
  end
  return best
end

---@param model string|nil
---@param prompt_tokens number
---@param completion_tokens number
---@return number usd
function M.estimate(model, prompt_tokens, completion_tokens)
  local rate = rate_of(model or "")
  return (prompt_tokens * rate[1] + completion_tokens * rate[2]) / 1e6
end

return M
