-- `macp modes diff`: does a changed folder behave differently from the one that serves?
-- Exit codes: 0 same behaviour, 1 it differs or a folder is invalid.

local console = require("macp.core.console")
local diff = require("macp.modes.diff")
local mode_folder = require("macp.cmd.shared.mode_folder")
local revision = require("macp.modes.revision")
local source = require("macp.modes.source")

local M = {
  summary = "Compare how two versions of a mode behave over their fixtures.",
  help = [[
  macp modes diff modes/decision                       against the mode of the same id inside this program
  macp modes diff modes/auction --against old/auction  against another folder

Plays the fixtures of both folders under both versions and prints, per fixture, the first message whose verdict, state
or outcome differs. Sessions keep the revision they started with; still, other behaviour wants another version.]],
  options = { { name = "against", value = "FOLDER", doc = "The other version (default: the one in this program)." } },
  arguments = { { name = "FOLDER", required = true, doc = "Mode folder." } },
  config = false,
}

local function embedded(id)
  for _, name in ipairs(source.embedded_folders()) do
    local files = source.embedded(name)
    local rev = revision.build(files, { root = "embedded/" .. name .. "/" })
    if rev and rev.id == id then return rev, nil, files end
    if rev then rev:close() end
  end
  return nil, { code = "NOT_FOUND", message = "this program has no mode " .. id .. "; name a folder with --against" }
end

---(yields)
function M.run(opts)
  local folder = opts.args[1]:gsub("/+$", "")
  local new, err, files = mode_folder(folder)
  if new == nil then return nil, err end
  local old, old_files
  if opts.against then
    old, err, old_files = mode_folder(opts.against)
  else
    old, err, old_files = embedded(new.id)
  end
  if old == nil then return nil, err end
  local found = diff.over_fixtures(old, new, files, folder .. "/")
  for _, difference in ipairs(opts.against and diff.over_fixtures(old, new, old_files, opts.against .. "/") or {}) do
    found[#found + 1] = difference
  end
  for _, difference in ipairs(found) do
    console.print(string.format("%s:%d: %s", difference.path, difference.line, difference.text))
  end
  local same_rules = old.hash == new.hash
  console.print(string.format("%s: %s", new.id, same_rules and "the same revision"
    or #found == 0 and "another revision, the same behaviour over all fixtures"
    or #found .. " fixtures behave differently"
      .. (old.version == new.version and "; give the mode a new version (it is still " .. new.version .. ")" or "")))
  old:close()
  new:close()
  return #found == 0 and 0 or 1
end

return M
