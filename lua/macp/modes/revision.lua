-- Revision: files -> hash -> isolate -> checked value. A revision is immutable in its rules; its presentation files
-- may be replaced while sessions run. How sessions use it is in live.lua.

local contract = require("macp.modes.contract")
local contract_view = require("macp.modes.contract_view")
local isolation = require("macp.modes.isolation")
local limits_of = require("macp.modes.limits")
local lint = require("macp.modes.lint")
local live = require("macp.modes.live")
local scanner = require("macp.modes.scanner")
local source = require("macp.modes.source")

local M = {}

-- LuaJIT shortens long chunk names in messages to "...tail".
local function full_path(file, root, files)
  if file == nil then return root .. "mode.lua" end
  local tail = file:match("^%.%.%.(.+)$")
  if not tail then return file end
  for name in pairs(files) do
    local path = root .. name
    if path:sub(-#tail) == tail then return path end
  end
  return file
end

---A script failure as a problem.
function M.problem_of(err, root, files, fallback, rule)
  local is_ours = err.file ~= nil and err.file:find("^inside%.") ~= nil
  local path = full_path(not is_ours and err.file or fallback, root, files)
  return { path = path, line = not is_ours and err.line or 1, text = err.message, severity = "error",
    rule = rule or (err.code == "LIMIT" and "limit" or "load") }
end

local function has_errors(problems)
  for _, problem in ipairs(problems) do
    if problem.severity == "error" then return true end
  end
  return false
end

---Sorts problems by file and line.
function M.sort(problems)
  for i, problem in ipairs(problems) do problem.order = i end
  table.sort(problems, function(a, b)
    if a.path ~= b.path then return a.path < b.path end
    if a.line ~= b.line then return a.line < b.line end
    return a.order < b.order
  end)
  for _, problem in ipairs(problems) do problem.order = nil end
  return problems
end

local function lint_files(files, root, maps, problems)
  for name, map in pairs(maps) do
    for _, warning in ipairs(lint.check(root .. name, map)) do problems[#problems + 1] = warning end
  end
  for name, text in pairs(files) do
    if name:find("^lib/") then
      for _, warning in ipairs(lint.check(root .. name, scanner.scan(text))) do problems[#problems + 1] = warning end
    end
  end
end

local function load_limits(limits)
  return { instructions = limits.load_instructions, growth_bytes = limits.growth_bytes }
end

-- Loads, checks and installs the presentation files into an isolate. Returns views by file name, or nil.
local function load_views(iso, files, root, model, limits, problems, maps)
  local views, first = {}, true
  for _, name in ipairs(contract_view.FILES) do
    if files[name] then
      local ok, shape = iso:call("load_view", load_limits(limits), files, root, name, first)
      first = false
      if not ok then
        problems[#problems + 1] = M.problem_of(shape, root, files, root .. name)
      else
        local map = scanner.lazy(files[name])
        maps[name] = map
        local found, view = contract_view.check(name, shape, map, root .. name, model)
        for _, problem in ipairs(found) do problems[#problems + 1] = problem end
        views[name] = view
      end
    end
  end
  if first then
    -- No presentation file at all: drop what an earlier revision of the folder had.
    iso:call("load_view", load_limits(limits), { ["normalizer.lua"] = "return {}" }, root, "normalizer.lua", true)
  end
  return views
end

local function load_rules(iso, files, root, limits, problems, maps)
  local ok, shape = iso:call("load_mode", load_limits(limits), files, root)
  local map = scanner.scan(files["mode.lua"])
  maps["mode.lua"] = map
  if not ok then
    problems[#problems + 1] = M.problem_of(shape, root, files, root .. "mode.lua")
    return nil
  end
  local found, model = contract.check(shape, map, root .. "mode.lua")
  for _, problem in ipairs(found) do problems[#problems + 1] = problem end
  return not has_errors(found) and model or nil
end

---Loads the files into an isolate and finds out what they say.
---@param iso table booted; other files may have been loaded into it before
---@param files table by relative path
---@param opts table { root = "modes/auction/" (shown in messages), limits =, lint = bool }
---@return table|nil facts model, views, hash, presentation, descriptor, files, root, maps, limits
---@return table[] problems errors (when nil) and warnings
function M.read(iso, files, opts)
  local root, problems, maps = opts.root or "", {}, {}
  local limits = limits_of.resolve(opts.limits)
  local model = load_rules(iso, files, root, limits, problems, maps)
  local views = model and load_views(iso, files, root, model, limits, problems, maps)
  if opts.lint then lint_files(files, root, maps, problems) end
  if model == nil or has_errors(problems) then return nil, M.sort(problems) end
  -- Every token of a file is a table: once all is well, lines are found again when somebody asks.
  for name in pairs(maps) do maps[name] = scanner.lazy(files[name]) end
  return {
    model = model, views = views, maps = maps, files = files, root = root, descriptor = contract.descriptor(model),
    hash = source.rules_hash(files), presentation = source.presentation_hash(files),
    limits = limits_of.resolve(opts.limits, model.id),
  }, problems
end

---Builds a revision in a fresh isolate.
---@param files table by relative path
---@param opts table { root = "modes/auction/" (shown in messages), limits =, strict_supersedes =,
---  lenient_outcomes =, lint = bool }
---@return table|nil revision
---@return table[] problems errors (when nil) and warnings
function M.build(files, opts)
  local iso, entries = isolation.new(opts.root or "mode", limits_of.resolve(opts.limits))
  local facts, problems = M.read(iso, files, opts)
  if facts == nil then
    iso:close()
    return nil, problems
  end
  local ok, err = iso:call("install", nil, facts.model,
    { revision = facts.hash, strict_supersedes = opts.strict_supersedes or false,
      lenient_outcomes = opts.lenient_outcomes or false, max_state_bytes = facts.limits.state_bytes })
  if ok then ok, err = iso:call("install_view", nil) end
  if not ok then
    iso:close()
    problems[#problems + 1] = M.problem_of(err, facts.root, files, facts.root .. "mode.lua")
    return nil, M.sort(problems)
  end
  facts.iso, facts.entries = iso, entries
  return live.new(facts), M.sort(problems)
end

---Puts other presentation files into a running revision. They are checked first; nothing changes on failure.
---@return boolean|nil ok
---@return table[] problems
function M.replace_views(rev, files)
  local problems, maps = {}, {}
  local trial = {}
  for name, text in pairs(files) do
    if name ~= "mode.lua" then trial[name] = text end
  end
  local views = load_views(rev.iso, trial, rev.root, rev.model, rev.limits, problems, maps)
  if not has_errors(problems) then
    local ok, err = rev.iso:call("install_view", nil)
    if ok then
      rev.views, rev.presentation = views, source.presentation_hash(files)
      return true, problems
    end
    problems[#problems + 1] = M.problem_of(err, rev.root, files, rev.root .. "normalizer.lua")
  end
  return nil, M.sort(problems)
end

return M
