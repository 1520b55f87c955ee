-- Which traces are recorded: the samplers that OTEL_TRACES_SAMPLER names.

local DIGITS = 13 -- hex digits that a number holds exactly

local M = {
  NAMES = { "always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off",
    "parentbased_traceidratio" },
}

local function always_on() return true end
local function always_off() return false end

-- Every program that samples with the same share takes the same traces: the second half of the id is a random number.
local function by_ratio(ratio)
  if ratio >= 1 then return always_on end
  local bound = ratio * 16 ^ DIGITS
  return function(trace_id) return tonumber(trace_id:sub(17, 16 + DIGITS), 16) < bound end
end

---@param name string one of NAMES
---@param ratio number 0 to 1; for those with `traceidratio`
---@return fun(trace_id: string, parent: macp.TraceContext|nil): boolean
function M.new(name, ratio)
  local root_name = name:match("^parentbased_(.+)$")
  local kind = root_name or name
  local root = kind == "always_on" and always_on or kind == "always_off" and always_off or by_ratio(ratio)
  if root_name == nil then return root end
  return function(trace_id, parent)
    if parent then return parent.sampled end
    return root(trace_id)
  end
end

return M
