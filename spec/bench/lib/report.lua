-- The figures of a run: value, what it must reach, the yardstick that limits it and the ratio to it.

local console = require("macp.core.console")

local Report = {}
Report.__index = Report

local M = {}

---@param yardsticks table<string, number> per second, by name
function M.new(yardsticks)
  return setmetatable({ yardsticks = yardsticks, rows = {}, missed = 0, style = console.style() }, Report)
end

local function number(value)
  if value >= 1000 then return string.format("%.0f", value) end
  if value >= 10 then return string.format("%.1f", value) end
  return string.format("%.2f", value)
end

local function row(self, name, value, bound, unit, is_met, relation, yardstick)
  local style = self.style
  local ratio = ""
  local base = yardstick and self.yardsticks[yardstick]
  if base then ratio = string.format("  = %.2f x %s", value / base, yardstick) end
  if not is_met then self.missed = self.missed + 1 end
  self.rows[#self.rows + 1] = {
    name = name, value = value, bound = bound, unit = unit, met = is_met, yardstick = yardstick,
  }
  console.print(string.format("  %-46s %10s %-4s %s %s%s  %s", name, number(value), unit, relation, number(bound),
    ratio, is_met and style.green("ok") or style.red("missed")))
end

---A figure that must reach a bound.
function Report:at_least(name, value, bound, unit, yardstick)
  row(self, name, value, bound, unit, value >= bound, ">=", yardstick)
end

---A figure that must not exceed a bound.
function Report:at_most(name, value, bound, unit, yardstick)
  row(self, name, value, bound, unit, value <= bound, "<=", yardstick)
end

---A remark below a figure.
function Report:note(fmt, ...) console.print("  " .. self.style.dim(fmt:format(...))) end

return M
