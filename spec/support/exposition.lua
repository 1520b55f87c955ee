-- Reads the text format of Prometheus back.

local M = {}

---@param text string
---@return table<string, { type: string, help: string, labels: string[], buckets: number[]|nil, samples: table[] }> families
function M.parse(text)
  local families = {}
  local function family_of(name)
    families[name] = families[name] or { samples = {} }
    return families[name]
  end
  for line in text:gmatch("[^\n]+") do
    local word, name, rest = line:match("^# (%u+) ([%w_:]+) (.*)$")
    if word == "HELP" then
      family_of(name).help = rest
    elseif word == "TYPE" then
      family_of(name).type = rest
    else
      local full, labels, value = line:match("^([%w_:]+){(.*)} (%S+)$")
      if full == nil then full, value = line:match("^([%w_:]+) (%S+)$") end
      assert(full, "not a line of metrics: " .. line)
      local base = families[full] and full or full:gsub("_bucket$", ""):gsub("_sum$", ""):gsub("_count$", "")
      local sample = { name = full, labels = {}, value = tonumber(value) }
      for key, text_of in (labels or ""):gmatch('([%w_]+)="([^"]*)"') do sample.labels[key] = text_of end
      assert(families[base], line .. " has no TYPE before it")
      table.insert(families[base].samples, sample)
    end
  end
  for _, family in pairs(families) do
    local names, buckets, seen = {}, {}, {}
    for _, sample in ipairs(family.samples) do
      for key, value in pairs(sample.labels) do
        if key == "le" then
          if tonumber(value) and not seen[value] and value ~= "+Inf" then buckets[#buckets + 1] = tonumber(value) end
        elseif not seen[key] then
          names[#names + 1] = key
          seen[key] = true
        end
        if key == "le" then seen[value] = true end
      end
    end
    table.sort(names)
    table.sort(buckets)
    family.labels, family.buckets = names, buckets
  end
  return families
end

---One value: of the sample with these labels, nil when there is none.
function M.value(families, name, labels)
  local base = families[name] and name or name:gsub("_bucket$", ""):gsub("_sum$", ""):gsub("_count$", "")
  for _, sample in ipairs(families[base] and families[base].samples or {}) do
    local same = sample.name == name
    for key, value in pairs(labels or {}) do same = same and sample.labels[key] == value end
    if same then return sample.value end
  end
  return nil
end

return M
