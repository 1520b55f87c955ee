-- Broadcasts that are not part of a session's stream: lifecycle events, signals, registry hints, health.

local rpc = require("host.rpc")
local task = require("host.task")

local host_bytes = require("host.bytes")

local lifecycle = require("macp.protocol.lifecycle")
local messages = require("macp.protocol.messages")
local session_record = require("macp.runtime.session")

local STATUS = rpc.status
local SYNC_BUFFER = 1024
local BATCH = 128      -- sessions looked at before others have their turn
local START_DIGITS = 16 -- see sessions.lua

local Watches = {}
Watches.__index = Watches

local M = {}

---@param opts { sessions: table, log: table, metrics: table, now_ms: fun(): integer, visible_only: boolean,
---  policies: table|nil }
function M.new(opts)
  return setmetatable({
    sessions = opts.sessions,
    log = opts.log,
    metrics = opts.metrics,
    now_ms = opts.now_ms,
    visible_only = opts.visible_only,
    policies = opts.policies,
    event_codec = messages.codec("macp.v1.WatchSessionsResponse", { enums = "number" }),
    change_codec = messages.codec("macp.v1.WatchModeRegistryResponse"),
    roots_codec = messages.codec("macp.v1.WatchRootsResponse"),
    session_watchers = {},
    signal_watchers = {},
    change = task.cond(),
    changes = 0,
    calls = {},
    announced = 0, -- CREATED events handed out
    closed = false,
  }, Watches)
end

---A lifecycle event with the session's facts as they are now; it is handed out when its record is durable.
---@param type_ integer lifecycle.EVENT.*
---@param at integer
function Watches:lifecycle(session, type_, at)
  return {
    session = session,
    type = type_,
    is_created = type_ == lifecycle.EVENT.CREATED,
    frame = assert(self.event_codec:encode({
      event = { event_type = type_, session = session_record.metadata(session), observed_at_unix_ms = at },
    })),
  }
end

local function finish(watcher, status, message)
  if watcher.finished then return end
  watcher.finished = true
  watcher.call:finish(status, message)
end

-- Opens the books for one watching call; the scope closes them.
local function register(self, set, kind, call, scope)
  local watcher = { call = call, buffer = nil, finished = false }
  if set then set[watcher] = true end
  self.calls[watcher] = true
  self.metrics.streams_open:inc(kind, 1)
  function scope.finish(status, message)
    if set then set[watcher] = nil end
    finish(watcher, status, message)
  end
  function scope.change(identity) watcher.identity = identity end
  scope.on_close = function()
    if set then set[watcher] = nil end
    self.calls[watcher] = nil
    self.metrics.streams_open:inc(kind, -1)
  end
  return watcher
end

local function offer(self, set, kind, watcher, frame)
  local ok, why = watcher.call:offer(frame)
  if ok then return end
  set[watcher] = nil
  if why == "full" then
    self.metrics.lagged:inc(kind, 1)
    finish(watcher, STATUS.RESOURCE_EXHAUSTED, "the reader fell behind; watch again")
  end
end

-- Runs fn(watcher) for every watcher; fn may take watchers out.
local function each(set, fn, ...)
  local watcher = next(set)
  while watcher do
    local following = next(set, watcher)
    fn(watcher, ...)
    watcher = following
  end
end

local function shared(set, frame)
  local first = next(set)
  if first == nil then return nil end
  return next(set, first) ~= nil and host_bytes.new(frame) or frame
end

local function deliver(watcher, self, event, frame)
  if self.visible_only and not session_record.may_read(event.session, watcher.identity) then return end
  local buffer = watcher.buffer
  if buffer == nil then return offer(self, self.session_watchers, "lifecycle", watcher, frame) end
  if #buffer >= SYNC_BUFFER then
    self.session_watchers[watcher] = nil
    self.metrics.lagged:inc("lifecycle", 1)
    return finish(watcher, STATUS.RESOURCE_EXHAUSTED, "too many events while the sessions were listed; watch again")
  end
  buffer[#buffer + 1] = frame
end

---Hands a durable lifecycle event to everybody who watches sessions.
function Watches:event(event)
  if event.is_created then
    self.announced = self.announced + 1
    event.session.announced = self.announced
  end
  local frame = shared(self.session_watchers, event.frame)
  if frame then each(self.session_watchers, deliver, self, event, frame) end
end

local function deliver_signal(watcher, self, frame) offer(self, self.signal_watchers, "signals", watcher, frame) end

---Hands a signal to everybody who watches signals.
function Watches:signal(frame)
  frame = shared(self.signal_watchers, frame)
  if frame then each(self.signal_watchers, deliver_signal, self, frame) end
end

---The mode registry changed.
function Watches:modes_changed()
  self.changes = self.changes + 1
  self.change:broadcast()
end

-- Whether a session's CREATED was handed out before a watcher was there; recovered sessions never had one.
local function was_before(session, watcher)
  if session.published == 0 then return false end
  return session.announced == nil or session.announced <= watcher.since
end

local function write_one(self, watcher, session)
  if not was_before(session, watcher) then return true end
  if self.visible_only and not session_record.may_read(session, watcher.identity) then return true end
  local event = self:lifecycle(session, lifecycle.EVENT.CREATED, session.started_at)
  if not self.log:wait(session.lsn) then
    finish(watcher, STATUS.INTERNAL, "StorageFailed: a session is being rebuilt")
    return nil
  end
  return not watcher.finished and watcher.call:write(event.frame)
end

-- Writes one CREATED per session known at the subscription, oldest first. (yields)
local function write_sync(self, watcher)
  local sessions, looked_at = self.sessions, 0
  local key = sessions.by_start:after("")
  while key do
    local session = sessions:find(key:sub(START_DIGITS + 2))
    if session and not write_one(self, watcher, session) then return nil end
    looked_at = looked_at + 1
    if looked_at % BATCH == 0 and not task.sleep(0) then return nil end
    key = sessions.by_start:after(key)
  end
  return true
end

-- Writes what was buffered during the sync until nothing is left, then goes live. (yields)
local function write_buffer(watcher)
  while #watcher.buffer > 0 do
    local buffer = watcher.buffer
    watcher.buffer = {}
    for _, frame in ipairs(buffer) do
      if watcher.finished or not watcher.call:write(frame) then return nil end
    end
  end
  watcher.buffer = nil
  return true
end

---Serves WatchSessions to its end. (yields)
function Watches:serve_sessions(call, identity, scope)
  local watcher = register(self, self.session_watchers, "lifecycle", call, scope)
  watcher.identity = identity
  watcher.buffer = {}
  watcher.since = self.announced
  if write_sync(self, watcher) and write_buffer(watcher) then call:wait_closed() end
end

---Serves WatchSignals to its end. (yields)
function Watches:serve_signals(call, _, scope)
  register(self, self.signal_watchers, "signals", call, scope)
  call:wait_closed()
end

---Serves WatchModeRegistry: one hint now, then one per change; changes nobody waited for melt into one. (yields)
function Watches:serve_modes(call, _, scope)
  local watcher = register(self, nil, "modes", call, scope)
  local seen
  while not watcher.finished and not call:cancelled() do
    if seen == self.changes then
      if not self.change:wait() then return end
    else
      seen = self.changes
      local hint = { change = { registry = "modes", observed_at_unix_ms = self.now_ms() } }
      if not watcher.finished and not call:write(assert(self.change_codec:encode(hint))) then return end
    end
  end
end

---Serves WatchRoots: one hint, then nothing: the runtime has no provider of roots. (yields)
function Watches:serve_roots(call, _, scope)
  local watcher = register(self, nil, "roots", call, scope)
  local hint = { change = { observed_at_unix_ms = self.now_ms() } }
  if not watcher.finished and call:write(assert(self.roots_codec:encode(hint))) then call:wait_closed() end
end

---Serves WatchPolicies: all policies now, then all of them after each change. Who reads slowly skips lists that a later
---one replaces; nobody is ended for it. (yields)
function Watches:serve_policies(call, _, scope)
  local watcher, policies = register(self, nil, "policies", call, scope), self.policies
  local seen
  while not watcher.finished and not call:cancelled() do
    if seen == policies.version then
      if not policies.changed:wait() then return end
    else
      local list
      list, seen = policies:snapshot()
      if not call:write(list) then return end
    end
  end
end

---Ends every watch: for shutdown, or for the reason given.
function Watches:close(reason)
  for watcher in pairs(self.calls) do finish(watcher, STATUS.UNAVAILABLE, reason or "the runtime is shutting down") end
  self.change:broadcast()
  if self.policies then self.policies.changed:broadcast() end
end

return M
