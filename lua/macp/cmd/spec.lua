-- `macp spec`: runs busted inside the program, on the event loop, so that `it` blocks may wait.
-- After each file no task or handle may be left; a test that hangs ends the run with its name.

local fs = require("host.fs")
local log = require("host.log")
local sys = require("host.sys")
local task = require("host.task")

local parallel = require("macp.cmd.spec.parallel")
local console = require("macp.core.console")

-- Loaded before the first spec so that all files share one copy (busted restores package.loaded after each file).
local HOST_MODULES = {
  "task", "sys", "log", "fs", "child", "json", "bytes", "embed", "crypto", "http", "fetch", "net", "pg", "rpc",
  "proto", "journal", "isolate",
}
local LEAK_GRACE_MS = 5000
local WATCHDOG_MS = 250

local M = {
  summary = "Run test files (busted) inside the program.",
  help = [[
  macp spec spec/unit                      every *_spec.lua below a folder
  macp spec spec/unit/core/ids_spec.lua    one file
  macp spec spec/unit --filter "router"    tests whose full name matches a Lua pattern
  macp spec spec/integration -o TAP -v     with stack traces, as TAP
  macp spec spec/integration --jobs 2      two files at a time, each in a process of its own

Each test runs in a task: it may wait for timers, sockets, queries. A file that leaves a task or a handle behind
fails, and so does a test that takes longer than --timeout.]],
  options = {
    { name = "filter", short = "f", value = "PATTERN", repeated = true, doc = "Only tests whose name matches." },
    { name = "filter-out", value = "PATTERN", repeated = true, doc = "Skip tests whose name matches." },
    { name = "tags", short = "t", value = "TAG", repeated = true, doc = "Only tests with #TAG in the name." },
    { name = "exclude-tags", value = "TAG", repeated = true, doc = "Skip tests with #TAG in the name." },
    { name = "pattern", short = "p", value = "PATTERN", default = "_spec%.lua$", doc = "Names of test files." },
    { name = "output", short = "o", value = "FORMAT", choices = { "plain", "TAP", "utf", "gtest", "junit", "json" },
      default = "plain", doc = "Report format." },
    { name = "verbose", short = "v", doc = "Show stack traces." },
    { name = "list", short = "l", doc = "List the tests without running them." },
    { name = "fail-fast", doc = "Stop at the first failure." },
    { name = "shuffle", doc = "Random order; failures show the seed." },
    { name = "seed", value = "N", type = "integer", doc = "Seed of --shuffle." },
    { name = "repeat", short = "r", value = "N", type = "integer", default = 1, doc = "Run everything N times." },
    { name = "jobs", short = "j", value = "N", type = "integer", default = 1,
      doc = "Files at a time, each in its own process; plain output only." },
    { name = "alone", doc = "With --jobs: run up to five files that failed once more, alone; that counts." },
    { name = "timeout", value = "MS", type = "integer", default = 300000, doc = "Longest time of one test." },
    { name = "lpath", value = "PATTERN", repeated = true, doc = "Additional package.path entry." },
    { name = "log-level", value = "LEVEL", choices = { "debug", "info", "warn", "error" }, default = "error",
      doc = "What the tested code may log." },
    { name = "keep-handles", doc = "Do not fail files that leave tasks or handles behind." },
  },
  arguments = { { name = "PATH", repeated = true, required = true, doc = "Test files, or folders of them." } },
  config = false,
}

local OUTPUT_HANDLERS = { plain = "plainTerminal", utf = "utfTerminal" }

local function preload_host_modules()
  for _, name in ipairs(HOST_MODULES) do
    if package.preload["host." .. name] then require("host." .. name) end
  end
end

-- What may leak: tasks (besides this one and the watchdog) and host handles by type.
local function census()
  local counts = { task = task.live() }
  for name, count in pairs(sys.handles()) do
    if type(count) == "number" then counts[name] = count end
  end
  return counts
end

local function grown(before)
  local words = {}
  for name, count in pairs(census()) do
    local more = count - (before[name] or 0)
    if more > 0 then words[#words + 1] = string.format("%d %s", more, name) end
  end
  table.sort(words)
  return #words > 0 and table.concat(words, ", ") or nil
end

-- Closing is asynchronous: gives what is on its way out some time. (yields)
local function wait_for_leaks(before)
  local deadline = sys.mono_ms() + LEAK_GRACE_MS
  local leaked = grown(before)
  while leaked and sys.mono_ms() < deadline do
    collectgarbage()
    task.sleep(10)
    leaked = grown(before)
  end
  return leaked
end

-- What there is before a file. Counted twice: the watchdog's timer is missing for a moment whenever it has fired, but
-- not two turns in a row. (yields)
local function steady_census()
  local counts = census()
  task.sleep(1)
  for name, count in pairs(census()) do counts[name] = math.max(counts[name] or 0, count) end
  return counts
end

local function watch_leaks(busted)
  local before
  busted.subscribe({ "file", "start" }, function()
    before = steady_census()
    return nil, true
  end)
  busted.subscribe({ "file", "end" }, function(file)
    local leaked = before and wait_for_leaks(before)
    if leaked then error(file.name .. " leaves behind: " .. leaked, 0) end
    return nil, true
  end)
end

-- Ends the process when one test takes too long: a wait that nobody ends cannot be told from a slow one.
local function watch_time(busted, limit_ms)
  local started, name
  busted.subscribe({ "test", "start" }, function(element, parent)
    started = sys.mono_ms()
    name = (parent and parent.name and parent.name .. " " or "") .. tostring(element.name)
    return nil, true
  end)
  busted.subscribe({ "test", "end" }, function()
    started = nil
    return nil, true
  end)
  return task.every(WATCHDOG_MS, function()
    if started and sys.mono_ms() - started > limit_ms then
      io.flush() -- what the report has printed so far
      console.warn(string.format("\nmacp spec: `%s` takes longer than %d ms", name, limit_ms))
      sys.abort(1)
    end
  end)
end

local function count_failures(busted, fail_fast)
  local tally = { bad = 0 }
  local function note()
    tally.bad = tally.bad + 1
    busted.skipAll = fail_fast
    return nil, true
  end
  busted.subscribe({ "error" }, note)
  busted.subscribe({ "failure" }, note)
  return tally
end

local NOT_PASSED_ON = { jobs = true, alone = true, pattern = true }

-- The options of this run as words for the processes of its files.
local function passed_on(opts)
  local words = {}
  for _, option in ipairs(M.options) do
    local value = opts[option.name:gsub("-", "_")]
    if not NOT_PASSED_ON[option.name] and value ~= nil and value ~= false then
      for _, one in ipairs(type(value) == "table" and value or { value }) do
        words[#words + 1] = one == true and "--" .. option.name or ("--%s=%s"):format(option.name, one)
      end
    end
  end
  return words
end

local function prepare(opts)
  local busted = require("busted.core")()
  require("busted")(busted)
  local tally = count_failures(busted, opts.fail_fast)
  busted.randomize = opts.shuffle
  busted.randomseed = opts.seed or os.time()
  require("busted.modules.output_handler_loader")()(busted, OUTPUT_HANDLERS[opts.output] or opts.output, {
    defaultOutput = "plainTerminal", verbose = opts.verbose, language = "en", arguments = {}, deferPrint = false,
  })
  require("busted.modules.filter_loader")()(busted, {
    tags = opts.tags or {}, excludeTags = opts.exclude_tags or {}, filter = opts.filter or {},
    filterOut = opts.filter_out or {}, list = opts.list, nokeepgoing = opts.fail_fast,
  })
  return busted, tally
end

local function run_in_parallel(opts)
  local problem
  if opts.jobs < 1 then
    problem = "--jobs: expected a number of 1 or more, got " .. opts.jobs
  elseif opts.list or opts.output ~= "plain" then
    problem = "--jobs reports in its own way: leave out " .. (opts.list and "--list" or "--output")
  end
  if problem then return nil, { code = "USAGE", message = problem } end
  return parallel.run(opts.args, {
    jobs = opts.jobs, pattern = opts.pattern, words = passed_on(opts), fail_fast = opts.fail_fast,
    alone = opts.alone,
  })
end

local function check_paths(paths)
  for _, path in ipairs(paths) do
    if not fs.stat(path) then
      return nil, { code = "USAGE", message = path .. ": no such file or folder; expected spec files or folders" }
    end
  end
  return true
end

---Runs the files. (yields)
function M.run(opts)
  local ok, err = check_paths(opts.args)
  if not ok then return nil, err end
  if opts.alone and opts.jobs == 1 then
    return nil, { code = "USAGE", message = "--alone is for --jobs of 2 or more: one file at a time is alone" }
  end
  if opts.jobs ~= 1 then return run_in_parallel(opts) end
  if opts.lpath then package.path = table.concat(opts.lpath, ";") .. ";" .. package.path end
  preload_host_modules()
  log.set_level(opts.log_level)
  local busted, tally = prepare(opts)
  local watchdog = watch_time(busted, opts.timeout)
  task.sleep(1) -- the watchdog's own timer belongs to the first census
  if not opts.keep_handles then watch_leaks(busted) end
  require("busted.modules.test_file_loader")(busted, { "lua" })(opts.args, { opts.pattern }, {
    excludes = {}, verbose = opts.verbose, recursive = true,
  })
  require("busted.execute")(busted)(opts["repeat"], {
    seed = busted.randomseed, shuffle = opts.shuffle, sort = false,
  })
  busted.publish({ "exit" })
  watchdog:stop()
  return tally.bad == 0 and 0 or 1
end

return M
