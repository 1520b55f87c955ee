-- `macp spec --jobs N`: each file in a process of its own, N at a time. A file's report comes when it ends, whole when
-- there is something to read in it.

local child = require("host.child")
local fs = require("host.fs")
local sys = require("host.sys")
local task = require("host.task")

local console = require("macp.core.console")

local SLOWEST_SHOWN = 10
local LINES_REPEATED = 40 -- of a file that failed, when all have ended
local MOST_AGAIN = 5 -- files that are run once more
local SUMMARY = "(%d+) %a+ / (%d+) %a+ / (%d+) %a+ / (%d+) %a+ : "

local M = {}

local function add_files(found, path, pattern)
  local entries = fs.list(path)
  if not entries then
    found[#found + 1] = path
    return
  end
  table.sort(entries, function(a, b) return a.name < b.name end)
  for _, entry in ipairs(entries) do
    local inner = path:gsub("/+$", "") .. "/" .. entry.name
    if entry.type == "dir" then
      add_files(found, inner, pattern)
    elseif entry.name:find(pattern) then
      found[#found + 1] = inner
    end
  end
end

-- Runs one file to its end. (yields)
local function run_file(path, words)
  local args = { "spec", path }
  for _, word in ipairs(words) do args[#args + 1] = word end
  local began = sys.mono_ms()
  local process, err = child.spawn({ file = sys.executable(), args = args, stdout = "pipe", stderr = "pipe" })
  if not process then return { path = path, code = 1, said = err.message, ms = 0 } end
  local said = {}
  local finished = task.group(function(group)
    for _, stream in ipairs({ "stdout", "stderr" }) do
      group:spawn(function()
        for piece in function() return process:read(stream) end do said[#said + 1] = piece end
      end)
    end
  end)
  if not finished then process:kill("TERM") end -- our own task is cancelled
  local status = task.shield(process.wait, process)
  process:close()
  return { path = path, code = status.signal and 128 + status.signal or status.code, said = table.concat(said),
    ms = sys.mono_ms() - began }
end

-- What a file's report counts: successes, failures, errors, pending.
local function counts_of(said)
  local counts = { 0, 0, 0, 0 }
  for good, failed, wrong, pending in said:gmatch(SUMMARY) do -- one for each repetition
    for at, count in ipairs({ good, failed, wrong, pending }) do counts[at] = counts[at] + tonumber(count) end
  end
  return counts
end

local function report(result)
  console.print(("%7.1f s  %s%s"):format(result.ms / 1000, result.path,
    result.code ~= 0 and ("  FAILED (exit status %d)"):format(result.code) or ""))
  if result.code ~= 0 or counts_of(result.said)[4] > 0 then console.print(result.said) end
end

local function summarize(results, elapsed_ms)
  local totals, bad = { 0, 0, 0, 0 }, 0
  for _, result in ipairs(results) do
    for at, count in ipairs(counts_of(result.said)) do totals[at] = totals[at] + count end
    if result.code ~= 0 then bad = bad + 1 end
  end
  table.sort(results, function(a, b) return a.ms > b.ms end)
  local words = {}
  for at = 1, math.min(SLOWEST_SHOWN, #results) do
    words[at] = ("%s %.1f s"):format(results[at].path:match("[^/]+$"), results[at].ms / 1000)
  end
  console.print(("%d successes / %d failures / %d errors / %d pending : %.1f seconds, %d files, %d of them failed")
    :format(totals[1], totals[2], totals[3], totals[4], elapsed_ms / 1000, #results, bad))
  console.print("slowest: " .. table.concat(words, ", "))
  return bad
end

-- The part of a report that tells what failed: busted tells it after its summary; a process that died has its reason at
-- the end.
local function print_failure(title, path, code, said)
  local from = said:find("\nFailure ->", 1, true) or said:find("\nError ->", 1, true)
  local lines = {}
  for line in (from and said:sub(from + 1) or said):gmatch("[^\n]+") do lines[#lines + 1] = line end
  local first = from and 1 or math.max(1, #lines - LINES_REPEATED + 1)
  local last = math.min(#lines, first + LINES_REPEATED - 1)
  console.print(("%s: %s (exit status %d)"):format(title, path, code))
  for at = first, last do console.print("  " .. lines[at]) end
  if last < #lines then console.print(("  and %d lines more"):format(#lines - last)) end
end

-- What failed once more, at the end: a log is read from there, and often only its end is kept.
local function repeat_failures(results)
  for _, result in ipairs(results) do
    local beside = result.beside
    if beside then print_failure("passed alone, failed beside others", result.path, beside.code, beside.said) end
    if result.code ~= 0 then print_failure("failed", result.path, result.code, result.said) end
  end
end

-- Runs the files that failed once more, one after the other. When many did, the reason is no crowd. (yields)
local function run_again(results, words)
  local bad = {}
  for at, result in ipairs(results) do
    if result.code ~= 0 then bad[#bad + 1] = at end
  end
  if #bad > MOST_AGAIN then return end
  for _, at in ipairs(bad) do
    local alone = run_file(results[at].path, words)
    if alone.code == 0 then alone.beside = results[at] end
    results[at] = alone
    report(alone)
  end
end

---Runs every file below the paths. (yields)
---@param paths string[]
---@param opts { jobs: integer, pattern: string, words: string[], fail_fast: boolean|nil, alone: boolean|nil }
---  words: options that each process is given; fail_fast: no file begins after one has failed; alone: files that
---  failed are run once more, alone, and that counts
---@return integer exit status: 0 when every file was run and passed
function M.run(paths, opts)
  local files, results, failed = {}, {}, false
  for _, path in ipairs(paths) do add_files(files, path, opts.pattern) end
  local began, next_file = sys.mono_ms(), 1
  task.group(function(group)
    for _ = 1, math.min(opts.jobs, #files) do
      group:spawn(function()
        while files[next_file] and not (opts.fail_fast and failed) do
          local path = files[next_file]
          next_file = next_file + 1
          local result = run_file(path, opts.words)
          results[#results + 1] = result
          failed = failed or result.code ~= 0
          report(result)
        end
      end)
    end
  end)
  if opts.alone then run_again(results, opts.words) end
  local bad = summarize(results, sys.mono_ms() - began)
  repeat_failures(results)
  return bad == 0 and #files > 0 and #results == #files and 0 or 1
end

return M
