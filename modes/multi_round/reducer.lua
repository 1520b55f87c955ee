-- How far the participants are: who stands where, which values are in play, who has not spoken. Long values are cut.
local macp = require "macp"
local short = require "lib.short"

local MAX_VALUES = 50

-- Values with their supporters' number, the most supported first; ties in the order of the values.
local function values(s)
  local counts, out = {}, macp.array {}
  for _, value in pairs(s.contributions) do counts[value] = (counts[value] or 0) + 1 end
  for value, count in pairs(counts) do out[#out + 1] = { value = short(value), participants = count } end
  table.sort(out, function(a, b)
    if a.participants ~= b.participants then return a.participants > b.participants end
    return a.value < b.value
  end)
  for i = #out, MAX_VALUES + 1, -1 do out[i] = nil end
  return out
end

local function missing(s, c)
  local out = macp.array {}
  for _, name in ipairs(c.participants) do
    if s.contributions[name] == nil then out[#out + 1] = name end
  end
  return out
end

return {
  render = function(s, c)
    return {
      phase = s.converged and "converged" or "contributing",
      round = s.round,
      converged = s.converged,
      contributions = macp.map(s.contributions, short),
      values = values(s),
      missing = missing(s, c),
    }
  end,

  summary = function(s, c)
    local spoke = macp.count(s.contributions)
    if s.converged then return string.format("converged after %d changes", s.round) end
    return string.format("%d of %d have contributed, %d changes", spoke, c.n, s.round)
  end,
}
