-- Check: one verdict over mode folders, for `macp modes check` and for tests.

local fs = require("host.fs")

local checker = require("macp.modes.checker")
local prove = require("macp.modes.prove")
local revision = require("macp.modes.revision")
local source = require("macp.modes.source")
local standard_check = require("macp.modes.standard_check")
local walk = require("macp.modes.walk")

local M = {}

local function empty(path, problems)
  return { path = path, problems = problems, notes = {}, results = {}, failed = 0, valid = false }
end

---Checks the files of one folder.
---@param files table
---@param root string shown in messages, ends with "/"
---@param opts table|nil { seed, walk = bool, sessions, steps }
---@return table outcome { path, problems, notes, results, failed, valid, cover, id, version }
function M.files(files, root, opts)
  opts = opts or {}
  local rev, problems = revision.build(files, { root = root, lint = true })
  if rev == nil then return empty(root, problems) end
  for _, problem in ipairs(standard_check.run(rev)) do problems[#problems + 1] = problem end
  local proof = prove.run(rev, files, { measure = true })
  local outcome = { path = root, problems = problems, notes = proof.notes, results = proof.results,
    failed = proof.failed,
    valid = true, cover = proof.cover, id = rev.id, version = rev.version }
  for _, problem in ipairs(proof.problems) do problems[#problems + 1] = problem end
  if #proof.results == 0 then
    table.insert(outcome.notes, 1, { path = root .. "mode.lua", line = 1, severity = "note",
      text = "the folder has no fixtures: nothing shows that it works" })
  end
  if opts.walk ~= false then
    local found, notes = walk.run(rev, opts)
    for _, problem in ipairs(found) do problems[#problems + 1] = problem end
    for _, note in ipairs(notes) do outcome.notes[#outcome.notes + 1] = note end
  end
  rev:close()
  return outcome
end

-- A file that nobody reads says nothing, however well it is written.
local function check_strangers(outcome, path)
  for _, name in ipairs(source.strangers(path)) do
    outcome.problems[#outcome.problems + 1] = { path = outcome.path .. name, line = 1, severity = "warning",
      rule = "unknown-file", text = "is no file of a mode and is not read" .. checker.hint(name, source.NAMES) }
  end
end

local function check_duplicates(outcomes)
  local seen = {}
  for _, outcome in ipairs(outcomes) do
    local key = outcome.id and outcome.id .. " " .. outcome.version
    if key and seen[key] then
      outcome.problems[#outcome.problems + 1] = { path = outcome.path .. "mode.lua", line = 1, severity = "error",
        rule = "identity.duplicate", text = key .. " is also in " .. seen[key] }
    elseif key then
      seen[key] = outcome.path
    end
  end
end

---Checks folders. (yields)
---@param paths string[]
---@return table[]|nil outcomes; nil, text when a path is no mode folder
function M.folders(paths, opts)
  local outcomes = {}
  for _, path in ipairs(paths) do
    path = path:gsub("/+$", "")
    local stat = fs.stat(path)
    if stat == nil or (stat.type ~= "dir" and #paths == 1) then
      return nil, path .. " is not a folder"
    elseif stat.type == "dir" then -- a file among many is what `modes/*` names besides folders
      local files, err = source.read(path)
      if files == nil then return nil, err.message end
      outcomes[#outcomes + 1] = M.files(files, path .. "/", opts)
      check_strangers(outcomes[#outcomes], path)
    end
  end
  check_duplicates(outcomes)
  return outcomes
end

return M
