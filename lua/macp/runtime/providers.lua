-- Extension providers (MACP_EXTENSIONS_FILE; RFC-MACP-0001): functions of the site that hear of starts with their key among
-- the extensions, and of every session's end. They run after the commit, one after another in a task of their own, and
-- change nothing; what recovery rebuilds is not told.

local log = require("host.log")
local task = require("host.task")

local lifecycle = require("macp.protocol.lifecycle")
local messages = require("macp.protocol.messages")
local records = require("macp.runtime.records")
local site_file = require("macp.runtime.site_file")
local tables = require("macp.core.tables")

local MEMBERS = { key = "string", on_session_start = "function", on_session_terminal = "function" }
local MAX_WAITING = 10000 -- events; a provider that hangs must not fill the memory

local EVENT = lifecycle.EVENT
local OUTCOMES = { [EVENT.RESOLVED] = "resolved", [EVENT.EXPIRED] = "expired", [EVENT.CANCELLED] = "cancelled" }

local Providers = {}
Providers.__index = Providers

local M = {}

local function check_one(provider)
  local problem = site_file.members_problem(provider, MEMBERS, "a table")
  if problem then return problem end
  if (provider.key or "") == "" then return "key: expected a string that is not empty" end
  return nil
end

local function check(list)
  if type(list) ~= "table" or #list == 0 then return "expected a list of providers" end
  for i, provider in ipairs(list) do
    local problem = check_one(provider)
    if problem then return string.format("[%d]: %s", i, problem) end
  end
  return nil
end

---Reads and runs the site's file. (yields)
---@param path string
---@return macp.runtime.SiteFile|nil file of a list { key, on_session_start, on_session_terminal } each
---@return string? problem
function M.load(path) return site_file.open("MACP_EXTENSIONS_FILE", path, check) end

local function keys_of(list)
  local keys = {}
  for _, provider in ipairs(list) do keys[provider.key] = true end
  return keys
end

---@param file macp.runtime.SiteFile of M.load
---@param journal table host.journal; extensions are read from the record of the start
function M.new(file, journal)
  return setmetatable({
    file = file, keys = keys_of(file.value), journal = journal, queue = {}, first = 1, last = 0, dropped = 0,
    wake = task.cond(),
    payload_codec = messages.codec("macp.v1.SessionStartPayload"),
  }, Providers)
end

local function push(self, item)
  if self.last - self.first + 1 >= MAX_WAITING then
    if self.dropped == 0 then log.error("extensions.dropped", { waiting = MAX_WAITING }) end
    self.dropped = self.dropped + 1
    return
  end
  self.last = self.last + 1
  self.queue[self.last] = item
  self.wake:signal()
end

---Takes note of a durable lifecycle event. Does not yield.
---@param event { session: table, type: integer }
function Providers:event(event)
  local session, outcome = event.session, OUTCOMES[event.type]
  if outcome then return push(self, { id = session.id, outcome = outcome }) end
  if event.type ~= EVENT.CREATED then return end
  for _, key in ipairs(session.extension_keys) do
    if self.keys[key] then return push(self, { id = session.id }) end
  end
end

local function call(provider, name, ...)
  local fn = provider[name]
  if fn == nil then return end
  local ok, err = pcall(fn, ...)
  if not ok then log.error("extension.failed", { key = provider.key, hook = name, error = tostring(err) }) end
end

-- What a session was started with. (yields)
local function extensions_of(self, id)
  local chunk, err = self.journal:read(id, 1, 1)
  local record = chunk and chunk[1] and records.decode(chunk[1])
  if record == nil then
    log.error("extensions.unread", { session_id = id, error = err and err.message })
    return {}
  end
  return assert(self.payload_codec:decode(record.envelope.payload)).extensions
end

-- (yields when a provider does)
local function tell(self, item)
  local extensions = item.outcome == nil and extensions_of(self, item.id)
  for _, provider in ipairs(self.file.value) do
    if item.outcome then
      call(provider, "on_session_terminal", item.id, item.outcome)
    elseif extensions[provider.key] ~= nil then
      call(provider, "on_session_start", item.id, tables.copy(extensions))
    end
  end
end

---Starts telling the providers, and following their file: what waits is told to those that are in it then.
function Providers:start()
  self.file:follow(function(list) self.keys = keys_of(list) end)
  self.running = task.spawn(function()
    while not self.stopped do
      local item = self.queue[self.first]
      if item then
        self.queue[self.first] = nil
        self.first = self.first + 1
        tell(self, item)
      elseif not self.wake:wait() then
        return
      end
    end
  end)
end

---Reads the file again; with a bad one the old providers stay. (yields)
function Providers:reload() self.file:reload() end

---Stops; what waits is not told any more. (yields)
function Providers:stop()
  self.stopped = true
  self.file:close()
  if self.running then self.running:cancel() end
end

return M
