-- Template: the folder that handles registered modes, and the revisions made of it: its files with the descriptor of one
-- mode in place of the sample. The hash of such a revision covers the descriptor.

local descriptors = require("macp.modes.descriptors")
local revision = require("macp.modes.revision")
local source = require("macp.modes.source")

local TEMPLATE = "passthrough"
local DESCRIPTOR_FILE = "lib/descriptor.lua"

local M = { NAME = TEMPLATE }

---The template's folder: one in a directory covers the one inside the program.
---@param registry table
---@return table|nil folder
function M.folder(registry)
  local best
  for _, folder in pairs(registry.folders) do
    local is_candidate = folder.name == TEMPLATE and folder.rev and folder.rev.model.template
    if is_candidate and (best == nil or best.origin == "embedded"
      or folder.origin ~= "embedded" and folder.loaded_at_ms > best.loaded_at_ms) then
      best = folder
    end
  end
  return best
end

local function files_of(folder, descriptor)
  local files = {}
  for name, text in pairs(folder.files) do
    if not name:find("^fixtures/") then files[name] = text end
  end
  files[DESCRIPTOR_FILE] = descriptors.source(descriptor)
  return files
end

local function build(registry, folder, files)
  local opts = registry.opts
  local rev, problems = revision.build(files, { root = folder.root, limits = opts.limits,
    strict_supersedes = opts.strict_supersedes, lenient_outcomes = opts.lenient_outcomes })
  if rev then return rev end
  local first = problems[1]
  return nil, string.format("%s:%s: %s", first.path, first.line, first.text)
end

---The handler of a descriptor, archived and pinned; serve() or unpin it. (yields)
---@param registry table
---@param descriptor table a complete one
---@return macp.modes.Revision|nil
---@return string|nil reason
function M.derive(registry, descriptor)
  local folder = M.folder(registry)
  if folder == nil then return nil, "the template modes/" .. TEMPLATE .. " is not loaded" end
  local files = files_of(folder, descriptor)
  local hash = source.rules_hash(files)
  local rev = registry.by_hash[hash]
  if rev == nil then
    local reason
    rev, reason = build(registry, folder, files)
    if rev == nil then return nil, reason end
    registry.by_hash[hash] = rev
    registry:retire(rev) -- until somebody serves it
  end
  registry:pin(rev)
  local ok, err = registry.archive:put(hash, files, { id = rev.id, version = rev.version })
  if ok then return rev end
  registry:unpin(rev)
  return nil, "the revision cannot be archived: " .. tostring(err.message)
end

---Takes a derived handler into service and gives its pin back.
function M.serve(registry, rev)
  registry.retired[rev] = nil
  registry:unpin(rev)
end

---The handler with this hash made anew from a recorded descriptor, when the template is still the one it was made of.
---(yields)
---@return macp.modes.Revision|nil rev in memory, unpinned; nil when the hash would be another
function M.remake(registry, hash, given)
  local folder, descriptor = M.folder(registry), descriptors.complete(given)
  if folder == nil or source.rules_hash(files_of(folder, descriptor)) ~= hash then return nil end
  local rev = M.derive(registry, descriptor)
  if rev then registry:unpin(rev) end
  return rev
end

return M
