-- Embedded: revisions of the folders inside the program. Those were proven when it was built, so a process reads them
-- once for all of its registries, and a revision sleeps until its first session: only then it has an isolate.

local isolation = require("macp.modes.isolation")
local limits_of = require("macp.modes.limits")
local live = require("macp.modes.live")
local revision = require("macp.modes.revision")
local source = require("macp.modes.source")

local Rev = live.Rev

local M = {}

local facts_of = {} -- by hash of the folder: a function of the program alone

-- What a sleeping revision can do without its isolate.
local Sleeping = {}

function Sleeping.close(rev) setmetatable(rev, Rev) end

function Sleeping.drop(rev, key) rev.weights[key] = nil end

function Sleeping.encode_stop() end

local function wake(rev)
  local opts = rev.wakes
  local built, problems = revision.build(rev.files, opts)
  if built == nil then error(opts.root .. ": " .. problems[1].text, 0) end
  setmetatable(rev, Rev)
  rev.iso, rev.entries, rev.wakes = built.iso, built.entries, nil
end

local function index(rev, name)
  if name ~= "iso" and name ~= "entries" then return Sleeping[name] or Rev[name] end
  wake(rev)
  return rawget(rev, name)
end

local META = { __index = index }

local function sleeping(facts, opts)
  local rev = live.new(facts)
  rev.limits = limits_of.resolve(opts.limits, rev.id)
  rev.wakes = opts
  return setmetatable(rev, META)
end

---Revisions of folders inside the program.
---@param folders table[] { files =, root = } each
---@param options fun(folder: table): table of macp.modes.revision.build
---@return macp.modes.Revision[]|nil in the order of folders; nil, problems
function M.revisions(folders, options)
  local revs, iso = {}, nil
  for i, folder in ipairs(folders) do
    local hash, opts = source.folder_hash(folder.files), options(folder)
    local facts, problems = facts_of[hash], nil
    if facts == nil then
      iso = iso or isolation.new("embedded", limits_of.resolve(opts.limits))
      facts, problems = revision.read(iso, folder.files, opts)
    end
    if facts == nil then
      iso:close()
      return nil, problems
    end
    facts_of[hash] = facts
    revs[i] = sleeping(facts, opts)
  end
  if iso then iso:close() end
  return revs
end

return M
