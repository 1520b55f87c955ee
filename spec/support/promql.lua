-- The names in a PromQL expression: what it asks for, which labels it expects there. Enough for rules and dashboards, no
-- evaluation. And the lines of a rules file.

local M = {}

local WORDS = { by = true, without = true, ["and"] = true, ["or"] = true, unless = true, on = true, ignoring = true,
  group_left = true, group_right = true, bool = true, offset = true }

-- Names in "a, b".
local function names_in(list)
  local names = {}
  for name in list:gmatch("[%a_][%w_]*") do names[#names + 1] = name end
  return names
end

---@param expr string
---@return { metrics: { name: string, labels: string[] }[], grouped: string[] } found
function M.names(expr)
  local text = expr:gsub('"[^"]*"', '""'):gsub("%[[^%]]*%]", "")
  local found = { metrics = {}, grouped = {} }
  for _, word in ipairs({ "by", "without", "on", "ignoring" }) do
    text = text:gsub("%f[%w_]" .. word .. "%s*%(([%w_,%s]*)%)", function(list)
      for _, name in ipairs(names_in(list)) do found.grouped[#found.grouped + 1] = name end
      return " "
    end)
  end
  local at = 1
  while true do
    local first, last, name = text:find("([%a_:][%w_:]*)", at)
    if first == nil then return found end
    at = last + 1
    local rest = text:sub(at)
    local matchers = rest:match("^%s*(%b{})")
    if matchers then at = text:find("}", at, true) + 1 end
    local is_number = first > 1 and text:sub(first - 1, first - 1):find("[%w%.]") ~= nil
    if not (WORDS[name] or rest:find("^%s*%(") or is_number) then
      local labels = {}
      for label in (matchers or ""):gmatch("([%a_][%w_]*)%s*[=!]") do labels[#labels + 1] = label end
      found.metrics[#found.metrics + 1] = { name = name, labels = labels }
    end
  end
end

local KEYS = { ["for"] = true, expr = true, alert = true, record = true, severity = true, summary = true,
  description = true, labels = true, annotations = true, name = true, rules = true, interval = true, groups = true }

---Reads a rules file of the shape that this project writes: one key per line, values on their line, lists of maps.
---@return { alert: string|nil, record: string|nil, expr: string, severity: string|nil, summary: string|nil }[] rules
function M.rules(text)
  local rules, number = {}, 0
  for line in (text .. "\n"):gmatch("(.-)\n") do
    number = number + 1
    if line:find("%S") and not line:find("^%s*#") then
      local key, value = line:match("^[%s%-]*([%a_]+):%s*(.-)%s*$")
      assert(key and KEYS[key], "line " .. number .. " is not understood: " .. line)
      assert(not line:find("\t"), "line " .. number .. " has a tab")
      local quoted = value:match('^"([^"]*)"$')
      assert(quoted or key == "expr" or not value:find(": "), "line " .. number .. " needs quotes: " .. line)
      if line:find("^      %- ") then
        rules[#rules + 1] = {}
      end
      if line:find("^      ") then rules[#rules][key] = quoted or value end
    end
  end
  return rules
end

return M
