-- Registry: mode id and version -> the revision that new sessions get. Folders come from inside the program and from
-- directories, which override; a folder that fails to load keeps its last good revision. Old revisions live as long
-- as sessions are pinned to them and come back from the archive when somebody asks for their hash.

local log = require("host.log")
local sys = require("host.sys")
local task = require("host.task")

local archives = require("macp.modes.archive")
local candidates = require("macp.modes.candidate")
local catalog = require("macp.modes.catalog")
local dir_watcher = require("macp.core.dir_watcher")
local embedded = require("macp.modes.embedded")
local folders = require("macp.modes.folders")
local memory = require("macp.modes.memory")
local policy_check = require("macp.modes.policy_check")
local registered = require("macp.modes.registered")
local report = require("macp.modes.report")
local revision = require("macp.modes.revision")
local semver = require("macp.core.semver")
local source = require("macp.modes.source")
local template = require("macp.modes.template")

local RELEASE_AFTER_MS = 30000 -- somebody may hold a revision it has not pinned yet

local Registry = {}
Registry.__index = Registry

local M = {}

---With is_quiet, a broken folder is no error in the log: another registry of this process tells what is wrong with it.
---@param opts table { dirs = {...}, archive = store, limits = {...}, depth = "fixtures|validate|off", embedded = bool,
---  strict_supersedes = bool, lenient_outcomes = bool, is_quiet = bool, metrics = registry, release_after_ms = number }
function M.new(opts)
  local self = setmetatable({
    opts = opts or {}, archive = opts and opts.archive or archives.memory(), folders = {}, current = {}, retired = {},
    loading = {}, listeners = {}, by_hash = {}, depth = opts and opts.depth or "fixtures",
  }, Registry)
  self.registered = registered.new(self)
  self.release_after_ms = self.opts.release_after_ms or RELEASE_AFTER_MS
  if self.opts.metrics then
    self.reloads = self.opts.metrics:counter("macp_mode_reloads_total", "Reloads of mode folders.", { "result" })
    memory.register(self, self.opts.metrics)
  end
  return self
end

local function build_options(self, root, depth)
  return { root = root, limits = self.opts.limits, strict_supersedes = self.opts.strict_supersedes,
    lenient_outcomes = self.opts.lenient_outcomes, depth = depth }
end

local function newer(a, b)
  return semver.compare(semver.parse(a.version), semver.parse(b.version)) > 0
end

-- One assignment per id and version; the latest version answers when none is named. A template is no mode by itself.
local function point(self, rev)
  self.by_hash[rev.hash] = rev
  if rev.model.template then return end
  local entry = self.current[rev.id] or { versions = {} }
  entry.versions[rev.version] = rev
  local latest
  for _, candidate in pairs(entry.versions) do
    if latest == nil or newer(candidate, latest) then latest = candidate end
  end
  entry.latest = latest
  self.current[rev.id] = entry
end

local function forget(self, rev)
  if self.by_hash[rev.hash] == rev then self.by_hash[rev.hash] = nil end
  self.retired[rev] = nil
  -- Handlers of registered modes can be any number in time; what is kept in memory ends with them.
  if rev.model.template and self.archive.forget then self.archive:forget(rev.hash) end
  rev:close()
end

-- Closes retired revisions that nobody uses.
local function sweep(self)
  local now = sys.mono_ms()
  for rev, since in pairs(self.retired) do
    if rev.pins <= 0 and now - since >= self.release_after_ms and not folders.uses(self, rev) then forget(self, rev) end
  end
end

---Marks a revision that no new session gets: it is freed some time after its last session has ended.
function Registry:retire(rev)
  if rev then self.retired[rev] = sys.mono_ms() end
end

-- Takes a revision out of service for new sessions.
local function withdraw(self, rev)
  local entry = self.current[rev.id]
  if entry and entry.versions[rev.version] == rev then
    entry.versions[rev.version] = nil
    entry.latest = nil
    for _, candidate in pairs(entry.versions) do
      if entry.latest == nil or newer(candidate, entry.latest) then entry.latest = candidate end
    end
    if entry.latest == nil then self.current[rev.id] = nil end
  end
  self:retire(rev)
end

---Tells the listeners of on_change.
function Registry:announce(rev, how)
  for _, listener in ipairs(self.listeners) do listener(rev, how) end
end

---Makes a proven revision the one that new sessions get. (yields while archiving)
function Registry:serve(folder, rev, files, how)
  local ok, err = self.archive:put(rev.hash, files, { id = rev.id, version = rev.version })
  if not ok then return nil, err end
  local old = folder.rev
  point(self, rev)
  if old and old ~= rev then
    if old.id ~= rev.id or old.version ~= rev.version then
      folder.rev = rev
      withdraw(self, old)
      folders.uncover(self, old, point)
    else
      self:retire(old)
    end
    folder.previous = { revision = old.hash, version = old.version }
  end
  folder.rev, folder.files, folder.loaded_at_ms, folder.candidate = rev, files, sys.now_ms(), nil
  sweep(self)
  if rev.model.template then self.registered:template_changed(folder) else self.registered:tell_conflicts() end
  self:announce(rev, how or "loaded")
  return true
end

-- The presentation files of a folder as they are now, put into every living revision of that mode.
local function present(self, folder, files)
  local ok, problems = revision.replace_views(folder.rev, files)
  if not ok then return nil, problems end
  for rev in pairs(self.retired) do
    if rev.id == folder.rev.id then
      local fine = revision.replace_views(rev, files)
      if not fine then log.warn("mode.presentation_unfit", { mode = rev.id, revision = rev.hash }) end
    end
  end
  folder.files, folder.loaded_at_ms, folder.candidate = files, sys.now_ms(), nil
  self:announce(folder.rev, "loaded")
  return true
end

local function record_failure(self, folder, files, problems)
  folder.candidate = { revision = source.rules_hash(files), at_ms = sys.now_ms(), errors = problems }
  local first = problems[1] or { text = "unknown" }
  local tell = self.opts.is_quiet and log.debug or log.error
  tell("mode.rejected", { folder = folder.path, problems = #problems, file = first.path, line = first.line,
    message = first.text, serving = folder.rev and folder.rev.hash })
  if self.reloads then self.reloads:inc("failed", 1) end
  return nil, problems
end

-- A folder at first sight that equals a revision in memory (a source tree beside the program) shares it.
local function adopt(self, folder, files, rules)
  local known = self.by_hash[rules]
  if folder.rev or known == nil or self.retired[known] or known.presentation ~= source.presentation_hash(files) then
    return false
  end
  folder.rev, folder.files, folder.loaded_at_ms = known, files, sys.now_ms()
  return true
end

---Builds, proves and serves what a folder holds now. (yields)
---@return boolean|nil changed; nil, problems
function Registry:reload(folder, files, depth)
  local hash = source.folder_hash(files)
  if folder.folder_hash == hash then return false end
  folder.folder_hash = hash
  local rules, started = source.rules_hash(files), sys.mono_ms()
  local same_rules = folder.rev and folder.rev.hash == rules
  if same_rules and folder.rev.presentation == source.presentation_hash(files) then
    folder.candidate = nil -- a broken save was taken back
    return false
  end
  if adopt(self, folder, files, rules) then return true end
  local rev, problems = folders.unique(self, folder,
    candidates.build(files, build_options(self, folder.root, depth or self.depth)))
  if rev == nil then return record_failure(self, folder, files, problems) end
  local ok, err
  if same_rules then
    rev:close()
    ok, problems = present(self, folder, files)
    if not ok then return record_failure(self, folder, files, problems) end
  else
    ok, err = self:serve(folder, rev, files)
    if not ok then
      rev:close()
      return record_failure(self, folder, files, { { path = folder.path, line = 1, severity = "error", rule = "archive",
        text = tostring(err.message) } })
    end
  end
  if self.reloads then self.reloads:inc("ok", 1) end
  log.info("mode.loaded", { mode = folder.rev.id, version = folder.rev.version, revision = folder.rev.hash,
    folder = folder.path, ms = math.floor(sys.mono_ms() - started) })
  return true
end

---Loads every folder. Embedded ones were proven when the program was built; one in a directory that is broken is
---reported and waits for its next save. (yields)
---@return boolean|nil ok; nil, err when a folder inside the program is broken or a directory cannot be read
function Registry:load_all()
  local inside = folders.embedded(self)
  local revs, problems = embedded.revisions(inside, function(folder) return build_options(self, folder.root) end)
  if revs == nil then return nil, { code = "INVALID", message = report.line(problems[1]) } end
  for i, folder in ipairs(inside) do
    folder.folder_hash = source.folder_hash(folder.files)
    self.folders[folder.key] = folder
    local ok, err = self:serve(folder, revs[i], folder.files)
    if not ok then return nil, { code = err.code, message = folder.path .. ": " .. err.message } end
  end
  for _, dir in ipairs(folders.directories(self)) do
    local ok, err = self:scan(dir)
    if not ok then return nil, { code = err.code, message = "directory of modes: " .. err.message } end
  end
  return true
end

---Looks at every folder of a directory; loads what is new or changed, withdraws what is gone. (yields)
function Registry:scan(dir)
  local found, err = source.folders(dir)
  if found == nil then return nil, err end
  local seen = {}
  for _, entry in ipairs(found) do
    seen[entry.path] = true
    local folder = folders.claim(self, entry)
    local files, problem = source.read(entry.path)
    if files then
      self:reload(folder, files)
    elseif problem.code ~= "NOT_FOUND" then
      log.error("mode.unreadable", { folder = entry.path, message = problem.message })
    end
  end
  for _, folder in pairs(folders.all(self)) do
    if folder.dir == dir and not seen[folder.path] then
      folders.gone(self, folder, withdraw, point)
      if folder.rev then self:announce(folder.rev, "withdrawn") end
    end
  end
  return true
end

-- Nobody waits for this one. (yields)
local function rescan(self, dir)
  local ok, err = self:scan(dir)
  if not ok then log.error("mode.directory_unreadable", { directory = dir, message = err.message }) end
end

---Looks at every directory again, whether or not its watcher has noticed a change. (yields)
function Registry:rescan()
  for _, dir in ipairs(folders.directories(self)) do rescan(self, dir) end
end

---The current revision of a mode (of a folder, registered or promoted), or of one of its versions.
---@return macp.modes.Revision|nil
function Registry:get(mode_id, version)
  local entry = self.registered:entry(mode_id)
  if entry == nil then return nil end
  if version == nil or version == "" then return entry.latest end
  return entry.versions[version]
end

-- Builds an archived revision with the presentation that its folder has now.
local function revive(self, hash, descriptor)
  local files, err = self.archive:get(hash)
  if files == nil then
    local made = descriptor and template.remake(self, hash, descriptor)
    if made then return made end
    return nil, err
  end
  local rev, problems = revision.build(files, build_options(self, "archive/" .. hash:sub(8, 19) .. "/"))
  if rev == nil then
    return nil, { code = "INVALID", message = "the archived revision " .. hash .. " does not load: "
      .. problems[1].text }
  end
  if rev.hash ~= hash then
    rev:close()
    return nil, { code = "CORRUPT", message = "the archive's files of " .. hash .. " have the hash " .. rev.hash }
  end
  for _, folder in pairs(self.folders) do
    if folder.rev and folder.rev.id == rev.id and folder.files then revision.replace_views(rev, folder.files) end
  end
  return rev
end

---The revision with this hash, from memory or the archive. (yields) Pin it before yielding again.
---@param hash string
---@param descriptor table|nil recorded with a session of a registered mode: makes the revision when no archive has it
function Registry:pinned(hash, descriptor)
  local rev = self.by_hash[hash]
  if rev then return rev end
  local waiting = self.loading[hash]
  if waiting then
    waiting.cond:wait()
    return waiting.rev, waiting.err
  end
  waiting = { cond = task.cond() }
  self.loading[hash] = waiting
  waiting.rev, waiting.err = revive(self, hash, descriptor)
  self.loading[hash] = nil
  if waiting.rev then
    self.by_hash[hash] = waiting.rev
    self:retire(waiting.rev)
  end
  waiting.cond:broadcast()
  return waiting.rev, waiting.err
end

---Keeps a revision in memory until unpin.
function Registry.pin(_, rev)
  rev.pins = rev.pins + 1
end

---Gives a pin back; a retired revision without pins is released.
function Registry:unpin(rev)
  rev.pins = rev.pins - 1
  if self.retired[rev] then sweep(self) end
end

---Descriptors: standard modes in their fixed order, then the rest by id.
function Registry:list() return catalog.list(self) end

---The same with what a list needs to know besides: { id, standard, descriptor } each.
function Registry:entries() return catalog.entries(self) end

---Whether a SessionStart of this mode must be complete, and whether with a participant: see registered.lua.
function Registry:is_strict(mode_id) return self.registered:is_strict(mode_id) end

---Points a mode back to an archived revision, validated and proven again. (yields)
---@return macp.modes.Revision|nil; nil, err with problems
function Registry:rollback(mode_id, hash)
  local folder
  for _, candidate in pairs(self.folders) do
    if candidate.rev and candidate.rev.id == mode_id then folder = candidate end
  end
  if folder == nil then return nil, { code = "NOT_FOUND", message = "no mode " .. mode_id .. " is loaded" } end
  local files, err = self.archive:get(hash)
  if files == nil then return nil, err end
  local rev, problems = candidates.build(files, build_options(self, "archive/" .. hash:sub(8, 19) .. "/", "fixtures"))
  if rev == nil then
    return nil, { code = "INVALID", message = "the revision " .. hash .. " is not valid any more", problems = problems }
  end
  if rev.id ~= mode_id then
    rev:close()
    return nil, { code = "INVALID", message = hash .. " is a revision of " .. rev.id .. ", not of " .. mode_id }
  end
  local ok
  ok, err = self:serve(folder, rev, files, "rolled back")
  if not ok then
    rev:close()
    return nil, err
  end
  log.warn("mode.rolled_back", { mode = mode_id, revision = hash })
  return rev
end

---Calls fn(rev, how) whenever the offer changes: "loaded" (also when only the presentation changes), "rolled back",
---"withdrawn", "registered", "unregistered" or "promoted".
function Registry:on_change(fn)
  self.listeners[#self.listeners + 1] = fn
end

---Watches the directories and releases unused revisions until close(). (yields)
function Registry:watch()
  if self.watcher then return end
  self.watcher = dir_watcher.start(folders.directories(self), "mode", function(dir) rescan(self, dir) end)
  self.sweeper = task.every(RELEASE_AFTER_MS, function() sweep(self) end)
end

---Collects the garbage of the isolates; see macp.modes.memory.
function Registry:collect() memory.collect(self) end

---What GET /admin/modes shows.
function Registry:status() return folders.status(self) end

policy_check.install(Registry)

---Stops watching and frees every isolate. (yields while a registration is being stored)
function Registry:close()
  self.registered:close()
  if self.watcher then
    self.watcher:stop()
    self.sweeper:stop()
  end
  self.watcher, self.sweeper = nil, nil
  for rev in pairs(self.retired) do rev:close() end
  for _, rev in pairs(self.by_hash) do rev:close() end
  for _, folder in pairs(self.folders) do
    if folder.rev then folder.rev:close() end
  end
  self.current, self.retired, self.by_hash = {}, {}, {}
end

return M
