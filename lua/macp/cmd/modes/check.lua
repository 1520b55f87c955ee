-- `macp modes check`: everything that can be known about mode folders before they serve.
-- Exit codes: 0 clean, 1 errors, 2 fixtures failed, 3 usage.

local log = require("host.log")

local check = require("macp.modes.check")
local console = require("macp.core.console")
local report = require("macp.modes.report")

local CLEAN, ERRORS, FIXTURES, USAGE = 0, 1, 2, 3

local M = {
  summary = "Validate mode folders and play their fixtures.",
  help = [[
  macp modes check modes/auction                one folder
  macp modes check modes/*                      all of them; the same id and version twice is an error
  macp modes check modes/auction --json         problems as a JSON array, for editors
  macp modes check modes/auction --seed 7       another random walk
  macp modes check modes/auction --verbose      instructions per message and state size

Runs, in this order: validation of every file; each fixture live, replayed, with the state encoded and decoded after
every message, and with tables rebuilt in another order; purity, invariants and views after each step; a random walk.
Exit code 0: clean, 1: errors, 2: a fixture failed, 3: wrong usage.]],
  options = {
    { name = "json", doc = "Print problems as JSON." },
    { name = "seed", value = "N", type = "integer", default = 1, doc = "Seed of the random walk." },
    { name = "no-walk", doc = "Skip the random walk." },
    { name = "verbose", short = "v", doc = "Show instructions used and the size of the state." },
  },
  arguments = { { name = "FOLDER", repeated = true, required = true, doc = "Mode folders." } },
  config = false,
}

local function print_result(result, width, style)
  local name = result.name .. string.rep(" ", width - #result.name)
  if result.ok then
    console.print(string.format("%s    %s  %2d messages", style.green("ok"), name, result.messages))
  else
    console.print(string.format("%s  %s  %s:%d: %s", style.red("fail"), name, result.problem.path, result.problem.line,
      result.problem.text))
  end
end

local function print_usage(outcome)
  local cover = outcome.cover
  local names = {}
  for name in pairs(cover.instructions) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    console.print(string.format("use   %s: %d instructions", name, cover.instructions[name]))
  end
  console.print(string.format("use   state %s, %d values", report.size(cover.bytes), cover.values))
end

local function print_outcome(outcome, opts, style)
  local width = 0
  for _, result in ipairs(outcome.results) do width = math.max(width, #result.name) end
  for _, problem in ipairs(outcome.problems) do
    if problem.rule ~= "fixture" then console.print(report.line(problem)) end
  end
  for _, result in ipairs(outcome.results) do print_result(result, width, style) end
  for _, note in ipairs(outcome.notes) do
    console.print(string.format("%s  %s:%d: %s", style.dim and style.dim("note") or "note", note.path, note.line,
      note.text))
  end
  if opts.verbose and outcome.cover then print_usage(outcome) end
  if outcome.valid then
    local count = #outcome.results
    console.print(string.format("%d fixture%s, %d failed", count, count == 1 and "" or "s", outcome.failed))
  end
end

---(yields)
function M.run(opts)
  log.set_level("error")
  log.set_format("text")
  local style, code, all = console.style(), CLEAN, {}
  local outcomes, problem = check.folders(opts.args, { seed = opts.seed, walk = not opts.no_walk })
  if outcomes == nil then
    console.warn("macp modes check: " .. problem)
    return USAGE
  end
  for i, outcome in ipairs(outcomes) do
    if not opts.json then
      if #outcomes > 1 then console.print((i > 1 and "\n" or "") .. style.bold(outcome.path)) end
      print_outcome(outcome, opts, style)
    end
    for _, entry in ipairs(outcome.problems) do all[#all + 1] = entry end
    for _, note in ipairs(opts.json and outcome.notes or {}) do all[#all + 1] = note end
    if report.count(outcome.problems, "error") > outcome.failed then
      code = ERRORS
    elseif outcome.failed > 0 and code == CLEAN then
      code = FIXTURES
    end
  end
  if opts.json then console.print(report.json(all)) end
  return code
end

return M
