-- Folders: where modes come from, and what the registry knows about each of them.

local embed = require("host.embed")
local fs = require("host.fs")
local json = require("host.json")
local log = require("host.log")

local revision = require("macp.modes.revision")
local source = require("macp.modes.source")
local template = require("macp.modes.template")

local M = {}

---Folder records of the modes inside the program; none when a development tree stands in for them.
function M.embedded(registry)
  if registry.opts.embedded == false or embed.root() then return {} end
  local out = {}
  for _, name in ipairs(source.embedded_folders()) do
    local root = "modes/" .. name .. "/"
    out[#out + 1] = { key = "embedded:" .. name, name = name, path = "modes/" .. name, root = root, origin = "embedded",
      files = source.embedded(name) }
  end
  return out
end

---Directories that hold mode folders; later ones override earlier ones. Each counts once. (yields)
function M.directories(registry)
  local out, seen = {}, {}
  local function add(dir)
    local real = fs.realpath(dir) or dir
    if seen[real] then return end
    seen[real] = true
    out[#out + 1] = dir
  end
  for _, dir in ipairs(registry.opts.dirs or {}) do add((dir:gsub("/+$", ""))) end
  local root = embed.root()
  if root and registry.opts.embedded ~= false and not seen[fs.realpath(root .. "/modes") or ""] then
    table.insert(out, 1, root .. "/modes")
  end
  return out
end

---The record of a folder on disk, made at first sight.
function M.claim(registry, entry)
  local key = "dir:" .. entry.path
  local folder = registry.folders[key]
  if folder == nil then
    folder = { key = key, name = entry.name, path = entry.path, root = entry.path .. "/", origin = "directory",
      dir = entry.path:match("^(.*)/[^/]*$") }
    registry.folders[key] = folder
  end
  return folder
end

---A copy of the list, so that records may be dropped meanwhile.
function M.all(registry)
  local out = {}
  for key, folder in pairs(registry.folders) do out[key] = folder end
  return out
end

local function is_same_mode(folder, rev)
  return folder.rev ~= nil and folder.rev.id == rev.id and folder.rev.version == rev.version
end

-- The folder that a revision of another one has covered: of a directory, else inside the program.
local function shadowed(registry, rev)
  local found
  for _, folder in pairs(registry.folders) do
    local is_better = found == nil or found.origin == "embedded" or folder.key > found.key
    if is_same_mode(folder, rev) and is_better and not (found and folder.origin == "embedded") then found = folder end
  end
  return found
end

---Refuses what another folder of the same directory serves already; between directories the later one wins. (yields)
---@param rev macp.modes.Revision|nil just built; closed when it is refused
---@return macp.modes.Revision|nil rev; nil, problems
function M.unique(registry, folder, rev, problems)
  if rev == nil or folder.dir == nil or rev.model.template then return rev, problems end -- templates are told apart
  for _, other in pairs(M.all(registry)) do
    local is_beside = other ~= folder and other.dir == folder.dir
    if is_beside and is_same_mode(other, rev) and fs.stat(other.path .. "/mode.lua") then -- not just renamed
      problems = { { path = folder.root .. "mode.lua", line = 1, key = "id", severity = "error",
        rule = "identity.duplicate", text = string.format("%s %s is also in %s", rev.id, rev.version, other.path) } }
      rev:close()
      return nil, problems
    end
  end
  return rev, problems
end

---Whether a folder still stands for this revision.
function M.uses(registry, rev)
  for _, folder in pairs(registry.folders) do
    if folder.rev == rev then return true end
  end
  return false
end

---After a revision of a directory went out of service: what it covered inside the program serves again.
function M.uncover(registry, rev, point)
  local below = shadowed(registry, rev)
  if below == nil then return end
  registry.retired[below.rev] = nil
  if below.rev.presentation ~= source.presentation_hash(below.files) then
    revision.replace_views(below.rev, below.files)
  end
  point(registry, below.rev)
end

---A folder was removed: new sessions get what it covered, or nothing. (yields when it was the template)
function M.gone(registry, folder, withdraw, point)
  registry.folders[folder.key] = nil
  local rev = folder.rev
  if rev == nil then return end
  withdraw(registry, rev)
  M.uncover(registry, rev, point)
  if rev.model.template then registry.registered:template_changed() end
  log.warn("mode.withdrawn", { mode = rev.id, version = rev.version, folder = folder.path })
end

local function problem_of(problem)
  return { path = problem.path, line = problem.line, key = problem.key, text = problem.text, rule = problem.rule,
    severity = problem.severity }
end

local function candidate_of(candidate)
  if candidate == nil then return nil end
  local errors = json.array({})
  for i, problem in ipairs(candidate.errors) do errors[i] = problem_of(problem) end
  return { revision = candidate.revision, at_ms = candidate.at_ms, errors = errors }
end

local function folder_status(registry, folder)
  local rev = folder.rev
  local out = { folder = folder.name, path = folder.path, origin = folder.origin, previous = folder.previous,
    candidate = candidate_of(folder.candidate), serving = false }
  if rev == nil then return out end
  out.id, out.version, out.title = rev.id, rev.version, rev.descriptor.title
  out.revision, out.presentation, out.pins = rev.hash, rev.presentation, rev.pins
  out.loaded_at_ms, out.faulty = folder.loaded_at_ms, rev.faulty
  local entry = registry.current[rev.id]
  out.serving = entry ~= nil and entry.versions[rev.version] == rev
  if rev.model.template then out.template, out.serving = true, template.folder(registry) == folder end
  return out
end

---Status of all folders, of the revisions that only old sessions use, and of what came over the wire.
function M.status(registry)
  local modes, retired = json.array({}), json.array({})
  local keys = {}
  for key in pairs(registry.folders) do keys[#keys + 1] = key end
  table.sort(keys)
  for i, key in ipairs(keys) do modes[i] = folder_status(registry, registry.folders[key]) end
  for rev in pairs(registry.retired) do
    retired[#retired + 1] = { id = rev.id, version = rev.version, revision = rev.hash, pins = rev.pins }
  end
  table.sort(retired, function(a, b) return a.revision < b.revision end)
  return { modes = modes, retired = retired, registered = registry.registered:status() }
end

return M
