-- Report: problems as lines for people and as JSON for editors.

local json = require("host.json")

local M = {}

---"path:line: key: text [rule]"; warnings and notes say so.
function M.line(problem)
  local severity = problem.severity == "warning" and "warning: " or ""
  local key = problem.key and problem.key .. ": " or ""
  local rule = problem.rule and "   [" .. problem.rule .. "]" or ""
  return string.format("%s:%d: %s%s%s%s", problem.path, problem.line, severity, key, problem.text, rule)
end

local function plain(problem)
  return { path = problem.path, line = problem.line, severity = problem.severity, key = problem.key,
    text = problem.text,
    rule = problem.rule }
end

---All problems as one JSON array.
function M.json(problems)
  local out = json.array({})
  for i, problem in ipairs(problems) do out[i] = plain(problem) end
  return json.encode(out, { sorted = true, pretty = true })
end

---How many of a severity.
function M.count(problems, severity)
  local n = 0
  for _, problem in ipairs(problems) do
    if problem.severity == severity then n = n + 1 end
  end
  return n
end

---"1.9 KiB".
function M.size(bytes)
  if bytes < 1024 then return bytes .. " bytes" end
  if bytes < 1048576 then return string.format("%.1f KiB", bytes / 1024) end
  return string.format("%.1f MiB", bytes / 1048576)
end

return M
