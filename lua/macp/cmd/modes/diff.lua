-- `macp modes diff`: does a changed folder behave differently from the one that serves?
-- Exit codes: 0 same behaviour, 1 it differs or a folder is invalid.

local console = require("macp.core.console")
local diff = require("macp.modes.diff")
local mode_folder = require("macp.cmd.shared.mode_folder")
local revision = require("macp.modes.revision")
local source = require("macp.modes.source")
local store = require("macp.cmd.shared.store")
local transcripts = require("macp.cmd.shared.transcripts")

local M = {
  summary = "Compare how two versions of a mode behave over their fixtures.",
  help = [[
  macp modes diff modes/decision                       against the mode of the same id inside this program
  macp modes diff modes/auction --against old/auction  against another folder
  macp modes diff modes/auction --sessions 100         over the last 100 recorded sessions, too

Plays the fixtures of both folders under both versions and prints, per fixture, the first message whose verdict, state
or outcome differs. --sessions does the same with recorded sessions (MACP_DATA_DIR; no runtime may serve it meanwhile):
their messages at their times, under both versions. Sessions keep the revision they started with; still, other
behaviour wants another version.]],
  options = {
    { name = "against", value = "FOLDER", doc = "The other version (default: the one in this program)." },
    { name = "sessions", value = "N", type = "integer", default = 0,
      doc = "Recorded sessions of the mode to play under both, from the store that the settings name." },
  },
  arguments = { { name = "FOLDER", required = true, doc = "Mode folder." } },
  quiet_config = true,
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

-- Plays recorded sessions under both. Returns how many were played, or nil, err. (yields)
local function over_sessions(old, new, count, cfg, found)
  return store.with(cfg, function(opened)
    return transcripts.each(opened.journal, new.id, count, function(transcript)
      local index, text = diff.over_session(old, new, transcript)
      if index then
        found[#found + 1] = { path = "session " .. store.safe(transcript.id), line = index, text = store.safe(text) }
      end
    end)
  end)
end

-- counts: differing fixtures and sessions, sessions played
local function verdict(old, new, counts)
  if old.hash == new.hash then return "the same revision" end
  local has_played = counts.played > 0
  if counts.fixtures + counts.sessions == 0 then
    return "another revision, the same behaviour over all fixtures" .. (has_played and " and sessions" or "")
  end
  local text = counts.fixtures .. " fixtures" .. (has_played and " and " .. counts.sessions .. " sessions" or "")
    .. " behave differently"
  if old.version ~= new.version then return text end
  return text .. "; give the mode a new version (it is still " .. new.version .. ")"
end

---(yields)
function M.run(opts, cfg)
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
  local in_fixtures, played = #found, 0
  if opts.sessions > 0 then
    played, err = over_sessions(old, new, opts.sessions, cfg, found)
    if played == nil then
      old:close()
      new:close()
      return nil, err
    end
    console.print(string.format("%d sessions of %s played", played, new.id))
  end
  for _, difference in ipairs(found) do
    console.print(string.format("%s:%d: %s", difference.path, difference.line, difference.text))
  end
  console.print(new.id .. ": " .. verdict(old, new, { fixtures = in_fixtures, sessions = #found - in_fixtures,
    played = played }))
  old:close()
  new:close()
  return #found == 0 and 0 or 1
end

return M
