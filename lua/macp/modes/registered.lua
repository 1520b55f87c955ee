-- Registered: modes that came over the wire, and promotions. A registered mode is a descriptor with a handler made from
-- the template. A promotion moves a mode, registered or a folder's, to the standards
-- track, under a new name if one is given. Changes happen one after another; each is stored before it counts.
--
-- record = { id, descriptor, rev, standard } of a registered mode, { id, source, standard } of a promoted folder's mode.

local json = require("host.json")
local log = require("host.log")
local task = require("host.task")

local descriptors = require("macp.modes.descriptors")
local registered_file = require("macp.modes.registered_file")
local tables = require("macp.core.tables")
local template = require("macp.modes.template")

local STANDARD_PREFIX = descriptors.RESERVED_PREFIX
local MAX_MODES = 256 -- each has an isolate of its own

local Registered = {}
Registered.__index = Registered

local M = {}

---@param registry table the mode registry; its folders, archive and revisions are used
function M.new(registry)
  return setmetatable({ registry = registry, store = registered_file.memory(), records = {}, moved = {}, told = {} },
    Registered)
end

-- The folder that offers a mode under its own id.
local function folder_entry(self, id)
  if self.moved[id] then return nil end
  return self.registry.current[id]
end

---What new sessions of a mode get: { latest, versions }; nil when there is no such mode. A folder comes first.
function Registered:entry(id)
  local entry = folder_entry(self, id)
  if entry then return entry end
  local record = self.records[id]
  if record == nil then return nil end
  if record.source then return self.registry.current[record.source] end
  return { latest = record.rev, versions = { [record.rev.version] = record.rev } }
end

---Whether a mode is on the standards track.
function Registered:is_standard(id)
  if id:sub(1, #STANDARD_PREFIX) == STANDARD_PREFIX then return true end
  local record = self.records[id]
  return record ~= nil and record.standard and (record.source ~= nil or folder_entry(self, id) == nil)
end

---Whether a SessionStart of this mode must be complete: those of registered modes may leave almost all out. Then a
---folder says itself how many participants it needs; a mode that is only a descriptor needs one.
---@return boolean is_strict, boolean needs_participants
function Registered:is_strict(id)
  if folder_entry(self, id) then return true, false end
  local is_standard, record = self:is_standard(id), self.records[id]
  return is_standard, is_standard and record ~= nil and record.source == nil
end

---Ids of all modes that can be started, unsorted.
function Registered:ids()
  local out, seen = {}, {}
  for _, set in ipairs({ self.registry.current, self.records }) do
    for id in pairs(set) do
      if not seen[id] and self:entry(id) then out[#out + 1] = id end
      seen[id] = true
    end
  end
  return out
end

-- Takes a handler out of service, unless it serves under another record.
local function put_down(self, rev)
  for _, record in pairs(self.records) do
    if record.rev == rev then return end
  end
  self.registry:retire(rev)
end

local function document_of(records)
  local ids, modes = {}, {}
  for id in pairs(records) do ids[#ids + 1] = id end
  table.sort(ids)
  for i, id in ipairs(ids) do
    local record = records[id]
    modes[i] = { id = id, source = record.source, standard = record.standard, descriptor = record.descriptor }
  end
  return { format = registered_file.FORMAT, modes = modes }
end

local function adopt(self, records)
  self.records, self.moved = records, {}
  for id, record in pairs(records) do
    if record.source and record.source ~= id then self.moved[record.source] = id end
  end
end

-- Makes a changed set of records the one that counts, once it is stored. (yields)
local function commit(self, records)
  local ok, err = self.store:save(document_of(records))
  if not ok then return nil, "the registry cannot be stored: " .. tostring(err.message) end
  adopt(self, records)
  return true
end

local function changed(self, id, record, removed)
  local records = tables.copy(self.records)
  if removed then records[removed] = nil end
  records[id] = record
  return records
end

-- Why a new mode cannot have this name; nil when it is free.
local function taken(self, id)
  if self.records[id] then return string.format("mode '%s' is already registered", id) end
  if self.registry.current[id] then
    local new = self.moved[id]
    if new then return string.format("mode '%s' is already registered: it was promoted to '%s'", id, new) end
    return string.format("mode '%s' is already registered: a folder of the program provides it", id)
  end
  return nil
end

local function register(self, given)
  local reason = descriptors.problem(given) or taken(self, given.mode)
  if reason then return nil, reason end
  if tables.count(self.records) >= MAX_MODES then
    return nil, string.format("%d modes are registered, which is as many as can be", MAX_MODES)
  end
  local descriptor = descriptors.complete(given)
  local rev
  rev, reason = template.derive(self.registry, descriptor)
  if rev == nil then return nil, string.format("mode '%s' cannot be handled: %s", given.mode, reason) end
  local record = { id = descriptor.mode, descriptor = descriptor, rev = rev, standard = false }
  local ok
  ok, reason = commit(self, changed(self, record.id, record))
  if not ok then
    self.registry:unpin(rev)
    return nil, reason
  end
  template.serve(self.registry, rev)
  log.info("mode.registered", { mode = record.id, version = rev.version, revision = rev.hash })
  return rev
end

local function unregister(self, id)
  local record = self.records[id]
  if self:entry(id) == nil and record == nil then return nil, string.format("mode '%s' is not registered", id) end
  if record == nil or record.source then
    return nil, string.format("mode '%s' is built in: a folder of the program provides it", id)
  end
  if record.standard then
    return nil, string.format("mode '%s' is on the standards track and stays registered", id)
  end
  local ok, reason = commit(self, changed(self, id, nil))
  if not ok then return nil, reason end
  put_down(self, record.rev)
  log.info("mode.unregistered", { mode = id, revision = record.rev.hash })
  return record.rev
end

-- Why a mode cannot be promoted to this name; nil when it can.
local function promotion_problem(self, id, target)
  if self:entry(id) == nil then return string.format("mode '%s' is not registered", id) end
  if self:is_standard(id) then return string.format("mode '%s' is on the standards track already", id) end
  if target == id then return nil end
  if descriptors.is_reserved(target) then
    return string.format("'%s' is in the namespace %s*, which is reserved", target, STANDARD_PREFIX)
  end
  if not target:find("%S") then return "promoted_mode_name is blank" end
  return descriptors.name_problem("promoted_mode_name", target) or taken(self, target)
end

-- The record of a mode after its promotion; of a registered one with the handler pinned. (yields)
local function promoted(self, id, target)
  local record = self.records[id]
  if folder_entry(self, id) then return { id = target, source = id, standard = true } end
  if record.source then return { id = target, source = record.source, standard = true } end
  local descriptor = descriptors.renamed(record.descriptor, target)
  local rev, reason = template.derive(self.registry, descriptor)
  if rev == nil then return nil, string.format("mode '%s' cannot be handled: %s", target, reason) end
  return { id = target, descriptor = descriptor, rev = rev, standard = true }
end

local function promote(self, id, new_name)
  local target = new_name == "" and id or new_name
  local reason = promotion_problem(self, id, target)
  if reason then return nil, reason end
  local old = self.records[id]
  local record
  record, reason = promoted(self, id, target)
  if record == nil then return nil, reason end
  local ok
  ok, reason = commit(self, changed(self, target, record, id))
  if not ok then
    if record.rev then self.registry:unpin(record.rev) end
    return nil, reason
  end
  if record.rev then template.serve(self.registry, record.rev) end
  if old and old.rev then put_down(self, old.rev) end
  log.info("mode.promoted", { mode = id, promoted = target })
  return self:entry(target).latest, target
end

-- One change after the other. What was changed is announced before anybody else has a turn.
local function in_turn(self, how, fn, ...)
  while self.busy do self.busy:wait() end
  if self.closed then return nil, "the runtime is shutting down" end
  local turn = task.cond()
  self.busy = turn
  local ok, rev, detail = pcall(fn, self, ...)
  if ok and rev and how then self.registry:announce(rev, how) end
  self.busy = nil
  turn:broadcast()
  if not ok then error(rev, 0) end
  return rev, detail
end

-- In a task of its own: a caller that goes away does not leave half of a change.
local function change(self, how, fn, ...)
  local rev, detail = task.spawn(in_turn, self, how, fn, ...):join()
  if rev == nil then return nil, type(detail) == "table" and detail.message or detail end
  return true, detail
end

---Registers a mode by its descriptor. (yields)
---@param descriptor table macp.v1.ModeDescriptor
---@return true|nil ok
---@return string|nil reason
function Registered:register(descriptor) return change(self, "registered", register, descriptor) end

---Takes a registered mode back; its sessions keep their handler. (yields)
---@return true|nil ok
---@return string|nil reason
function Registered:unregister(id) return change(self, "unregistered", unregister, id) end

---Moves a mode to the standards track. (yields)
---@param id string
---@param new_name string "" keeps the name
---@return true|nil ok
---@return string reason, or the name it has now
function Registered:promote(id, new_name) return change(self, "promoted", promote, id, new_name) end

-- New handlers for new sessions, after the template has changed. One that fails keeps the handler it has. (yields)
local function remake_all(self)
  for id, record in pairs(tables.copy(self.records)) do
    if record.descriptor then
      local rev, reason = template.derive(self.registry, record.descriptor)
      if rev == nil then
        log.error("mode.rejected", { mode = id, message = reason, serving = record.rev and record.rev.hash })
      else
        local old = record.rev
        record.rev = rev
        template.serve(self.registry, rev)
        if old and old ~= rev then put_down(self, old) end
      end
    end
  end
  return true
end

---A template's folder has another content, or is gone. (yields)
function Registered:template_changed(folder)
  if folder and folder.name ~= template.NAME then
    log.warn("mode.template_unused", { folder = folder.path, message = "registered modes are handled by the folder "
      .. template.NAME })
    return
  end
  if next(self.records) then in_turn(self, nil, remake_all) end
end

---Says, once for each, which records a folder stands in front of. Folders win: a registered mode can be replaced by
---code written by hand.
function Registered:tell_conflicts()
  for id, record in pairs(self.records) do
    local folder = record.source ~= id and folder_entry(self, id)
    if folder and not self.told[id] then
      self.told[id] = true
      log.error("mode.conflict", { mode = id, registered_in = self.store.where, folder = folder.latest.root,
        message = string.format("mode '%s' is provided by the folder %s and also registered in %s; the folder serves. "
          .. "Unregister the mode or remove the folder", id, folder.latest.root, self.store.where) })
    elseif record.source and self.registry.current[record.source] == nil and not self.told[id] then
      self.told[id] = true
      log.error("mode.missing", { mode = id, message = string.format("mode '%s' is promoted from '%s' in %s, but no "
        .. "folder provides '%s'", id, record.source, self.store.where, record.source) })
    end
  end
end

local function record_of(item)
  if type(item) ~= "table" then return nil, "must be an object" end
  if type(item.id) ~= "string" or type(item.standard) ~= "boolean" then return nil, "needs 'id' and 'standard'" end
  if item.source ~= nil then
    if type(item.source) ~= "string" or item.descriptor ~= nil then return nil, "has 'source' or 'descriptor'" end
    return { id = item.id, source = item.source, standard = item.standard }
  end
  local reason = descriptors.problem(item.descriptor)
  if reason then return nil, "descriptor: " .. reason end
  if item.descriptor.mode ~= item.id then return nil, "the descriptor is for '" .. item.descriptor.mode .. "'" end
  return { id = item.id, descriptor = descriptors.complete(item.descriptor), standard = item.standard }
end

---Brings back what a store holds, and keeps further changes there. Folders are loaded before. (yields)
---@param store table see macp.modes.registered_file
---@return true|nil ok
---@return table|nil err
function Registered:open(store)
  local document, err = store:load()
  if err then return nil, err end
  local records = {}
  for i, item in ipairs(document and document.modes or {}) do
    local record, reason = record_of(item)
    if record and records[record.id] then record, reason = nil, "'" .. record.id .. "' is listed twice" end
    if record and record.descriptor then record.rev, reason = template.derive(self.registry, record.descriptor) end
    if record == nil or record.descriptor and record.rev == nil then
      return nil, { code = "CORRUPT", message = string.format("%s: modes[%d]: %s", store.where, i, reason) }
    end
    records[record.id] = record
  end
  self.store = store
  adopt(self, records)
  for _, record in pairs(records) do
    if record.rev then template.serve(self.registry, record.rev) end
  end
  self:tell_conflicts()
  return true
end

---What is registered and promoted, for status pages.
function Registered:status()
  local out = json.array({})
  for i, id in ipairs(tables.sorted_keys(self.records)) do
    local record = self.records[id]
    local rev = record.rev
    out[i] = { id = id, standard = record.standard, source = record.source, version = rev and rev.version,
      revision = rev and rev.hash, pins = rev and rev.pins,
      covered = record.source ~= id and folder_entry(self, id) ~= nil }
  end
  return out
end

---Waits for a change that is under way; later ones are refused. (yields when there is one)
function Registered:close()
  self.closed = true
  while self.busy and self.busy:wait() do end
end

return M
