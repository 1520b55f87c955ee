-- Candidate: the way of a folder's files to a revision that may serve: build in a fresh isolate, validate, play the
-- fixtures in slices. Used by the registry for reload and rollback.

local sys = require("host.sys")
local task = require("host.task")

local prove = require("macp.modes.prove")
local revision = require("macp.modes.revision")
local source = require("macp.modes.source")

local SLICE_MS = 4
local KEPT_PROOFS = 64

local M = {}

-- Gives the loop a turn when this slice of work has lasted long enough.
local function slicer()
  local started = sys.mono_ms()
  return function()
    if sys.mono_ms() - started > SLICE_MS and task.current() then
      task.sleep(0)
      started = sys.mono_ms()
    end
  end
end

-- Whether the fixtures pass is a function of the files alone, so the registries of one process (runtime and plane watch
-- the same directories) share it: by folder hash, true or the signal of the one that is at it.
local proofs, order = {}, {}

local function remember(hash)
  proofs[hash] = true
  order[#order + 1] = hash
  if #order > KEPT_PROOFS then proofs[table.remove(order, 1)] = nil end
end

-- Plays the fixtures; returns the problems, none when all pass. (yields)
local function play(rev, files)
  local report = prove.run(rev, files, { between = slicer() })
  return report.failed > 0 and report.problems or {}
end

local function play_once(rev, files)
  local hash = source.folder_hash(files)
  while proofs[hash] and proofs[hash] ~= true do proofs[hash]:wait() end
  if proofs[hash] then return {} end
  local signal = task.cond()
  proofs[hash] = signal
  local ok, problems = xpcall(play, debug.traceback, rev, files)
  proofs[hash] = nil
  if ok and #problems == 0 then remember(hash) end
  signal:broadcast()
  if not ok then error(problems, 0) end
  return problems
end

---Builds and proves. (yields)
---@param files table
---@param opts table { root, limits, strict_supersedes, lenient_outcomes, depth = "validate|fixtures|off" }
---@return table|nil revision
---@return table[] problems errors first of validation, then of fixtures
function M.build(files, opts)
  local rev, problems = revision.build(files, opts)
  if rev == nil or opts.depth ~= "fixtures" then return rev, problems end
  local is_plain = not (opts.limits or opts.strict_supersedes or opts.lenient_outcomes)
  local failures = (is_plain and play_once or play)(rev, files)
  if #failures > 0 then
    rev:close()
    return nil, failures
  end
  return rev, problems
end

return M
