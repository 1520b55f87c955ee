-- The text format of Prometheus, version 0.0.4.

local M = { CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8" }

local ESCAPES = { ["\\"] = "\\\\", ["\n"] = "\\n", ['"'] = '\\"' }

local function escape_value(text)
  return (text:gsub('[\\\n"]', ESCAPES))
end

local function escape_help(text)
  return (text:gsub("[\\\n]", ESCAPES))
end

local function number(value)
  if value == math.huge then return "+Inf" end
  if value == -math.huge then return "-Inf" end
  if value ~= value then return "NaN" end
  if value % 1 == 0 and value > -2 ^ 53 and value < 2 ^ 53 then return string.format("%d", value) end
  return (string.format("%.15g", value))
end

-- `a="1",b="2"`; made once per series.
local function label_text(family, series)
  if series.label_text == nil then
    local parts = {}
    for i, name in ipairs(family.label_names) do
      parts[i] = name .. '="' .. escape_value(series.label_values[i]) .. '"'
    end
    series.label_text = table.concat(parts, ",")
  end
  return series.label_text
end

local function braces(text)
  return text == "" and "" or ("{" .. text .. "}")
end

local function add_histogram(out, family, series)
  local labels = label_text(family, series)
  local prefix = family.name .. "_bucket{" .. labels .. (labels == "" and "" or ",")
  local total = 0
  for i, bound in ipairs(series.bounds) do
    total = total + series.counts[i]
    out[#out + 1] = prefix .. 'le="' .. number(bound) .. '"} ' .. number(total)
  end
  out[#out + 1] = prefix .. 'le="+Inf"} ' .. number(series.count)
  out[#out + 1] = family.name .. "_sum" .. braces(labels) .. " " .. number(series.sum)
  out[#out + 1] = family.name .. "_count" .. braces(labels) .. " " .. number(series.count)
end

---@param registry macp.Metrics
---@return string
function M.render(registry)
  local names, out = { unpack(registry.order) }, {}
  table.sort(names)
  for _, name in ipairs(names) do
    local family = registry.families[name]
    out[#out + 1] = "# HELP " .. name .. " " .. escape_help(family.help)
    out[#out + 1] = "# TYPE " .. name .. " " .. family.type
    for _, series in ipairs(family.series) do
      if family.type == "histogram" then
        add_histogram(out, family, series)
      else
        out[#out + 1] = name .. braces(label_text(family, series)) .. " " .. number(series.value)
      end
    end
  end
  out[#out + 1] = ""
  return table.concat(out, "\n")
end

return M
