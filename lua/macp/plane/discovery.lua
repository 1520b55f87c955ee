-- Discovery: every session of the runtime becomes a run, announced or not, and changes of state reach their runs.
-- WatchSessions tells; after each (re)connection ListSessions fills in what was missed.

local crypto = require("host.crypto")
local log = require("host.log")
local sys = require("host.sys")
local task = require("host.task")

local backoff = require("macp.core.backoff")
local errors = require("macp.core.errors")
local ids = require("macp.core.ids")
local json = require("macp.core.json")
local lru = require("macp.core.lru")
local time = require("macp.core.time")
local messages = require("macp.protocol.messages")
local protocol = require("macp.protocol.lifecycle")
local binding = require("macp.plane.binding")
local ending = require("macp.plane.ending")
local lifecycle = require("macp.plane.lifecycle")
local run_module = require("macp.plane.run")
local trace = require("macp.plane.trace")

local runs_store = require("macp.store.runs")

local SESSION_NAMESPACE = "5f0f7b42-9a6d-5c1e-8b9e-2f6a7a1f3c55" -- of run ids made from session ids that are no UUID
local KNOWN_ENDED = 20000
local PARALLEL = 16
local DEFAULT_TTL_MS = 300000

---@class macp.plane.Discovery
local Discovery = {}
Discovery.__index = Discovery

local M = {}

---@param opts { client: table, owner: table, launcher: table, writers: table, db: table, tenant: string, kind: string,
---  supervisor: table }
function M.new(opts)
  return setmetatable({
    client = opts.client, owner = opts.owner, launcher = opts.launcher, writers = opts.writers, db = opts.db,
    tenant = opts.tenant, kind = opts.kind, supervisor = opts.supervisor, entering = {}, active = 0,
    room = task.cond(), ended = lru.new(KNOWN_ENDED), connected = false,
  }, Discovery)
end

local function run_id_of(session_id)
  if ids.is_uuid(session_id) then return session_id:lower() end
  return crypto.uuid5(SESSION_NAMESPACE, session_id)
end

M.run_id_of = run_id_of

-- The row of a run for a session that nobody announced.
local function row_of(self, metadata, now_ms)
  local started, expires = tonumber(metadata.started_at_unix_ms) or 0, tonumber(metadata.expires_at_unix_ms) or 0
  local request = {
    mode = "live", runtime = { kind = self.kind },
    session = {
      sessionId = metadata.session_id, modeName = metadata.mode,
      modeVersion = metadata.mode_version ~= "" and metadata.mode_version or "1.0.0",
      configurationVersion = metadata.configuration_version ~= "" and metadata.configuration_version
        or "config.default",
      policyVersion = metadata.policy_version, ttlMs = expires > started and expires - started or DEFAULT_TTL_MS,
      participants = json.array({}),
      metadata = { source = "session-discovery", discoveredAt = time.iso(now_ms),
        initiator = metadata.initiator },
    },
  }
  for i, id in ipairs(metadata.participants or {}) do request.session.participants[i] = { id = id } end
  return {
    tenant = self.tenant, id = run_id_of(metadata.session_id), mode = "live", runtime_kind = self.kind,
    runtime_session_id = metadata.session_id, trace_id = trace.new_id(), source_kind = "session-discovery", tags = "[]",
    metadata = json.encode({ executionRequest = request }), delegated_cancel = false, lease_owner = self.owner.name,
    created_ms = now_ms,
  }
end

-- Creates the run of a session, unless it exists. (yields)
local function create(self, metadata)
  local row = row_of(self, metadata, sys.now_ms())
  local inserted, err = runs_store.insert(self.db, row)
  if inserted == nil then return nil, err end
  if not inserted then
    local known, find_err = runs_store.find_by_session(self.db, self.tenant, metadata.session_id)
    if known == nil then return nil, find_err end
    if known and (known.status == "completed" or known.status == "failed" or known.status == "cancelled") then
      self.ended:set(metadata.session_id, true)
      return false
    end
    if known then return self.owner:adopt(known.id) end
    return false
  end
  local run = run_module.new({
    tenant = row.tenant, id = row.id, session_id = row.runtime_session_id, kind = row.runtime_kind, status = "queued",
    trace_id = row.trace_id, created_ms = row.created_ms,
  }, self.writers:of(row.id))
  self.owner:add(run)
  lifecycle.created(run, { mode_name = metadata.mode })
  lifecycle.starting(run, metadata.mode)
  self.launcher:attach(run, metadata)
  return run
end

-- true when another try cannot help: the database refused the row itself.
local function is_final(err)
  local sqlstate = err.cause and err.cause.sqlstate or ""
  return errors.is(err, "CANCELLED") or sqlstate:find("^22") ~= nil or sqlstate:find("^23") ~= nil
end

-- Like create, for as long as the database cannot be asked: a session is told about only once. (yields)
local function create_at_last(self, metadata)
  local delays = backoff.new({ base_ms = 100, max_ms = 5000 })
  while true do
    local run, err = create(self, metadata)
    if run ~= nil or is_final(err) then return run, err end
    log.warn("discovery.create_failed", { session_id = metadata.session_id, error = err.message })
    local slept, sleep_err = task.sleep(delays:next())
    if not slept then return nil, sleep_err end
  end
end

---A run has ended: what is still said about its session is old news.
function Discovery:forget(session_id)
  self.ended:set(session_id, true)
end

-- A session was told about: its run is made in a task of its own, at most 16 at a time. (yields while all are busy)
local function enter(self, metadata)
  local session_id = metadata.session_id
  if self.ended:get(session_id) then return true end
  if self.entering[session_id] then
    self.entering[session_id] = metadata -- the newest word counts once the run is there
    return true
  end
  while self.active >= PARALLEL do
    local ok, err = self.room:wait()
    if not ok then return nil, err end
  end
  self.entering[session_id] = metadata
  self.active = self.active + 1
  self.supervisor:start("discover", function()
    local run, err = create_at_last(self, metadata)
    local newest = self.entering[session_id]
    self.entering[session_id] = nil
    if run and newest ~= metadata then self:see(newest) end
    self.active = self.active - 1
    self.room:signal()
    if run == nil and not errors.is(err, "CANCELLED") then
      log.warn("discovery.create_failed", { session_id = session_id, error = err and err.message })
    end
    return true
  end, { restart = "never" })
  return true
end

-- Brings a run to what the runtime says about its session.
local function follow_state(self, run, metadata)
  local state = type(metadata.state) == "number" and protocol.NAMES[metadata.state] or metadata.state
  if run.session and metadata.expires_at_unix_ms then
    run.session.expires_ms = tonumber(metadata.expires_at_unix_ms) or run.session.expires_ms
  end
  if protocol.is_terminal(state) then
    if run.session then
      ending.announce(run, state, binding.accepted_count(metadata))
    else
      self.launcher:session_created(run.session_id)
    end
  elseif state == "SESSION_STATE_SUSPENDED" and run.status == "running" then
    lifecycle.suspended(run)
  elseif state == "SESSION_STATE_OPEN" and run.status == "suspended" then
    lifecycle.running(run)
  elseif run.session == nil then
    self.launcher:session_created(run.session_id)
  end
end

---Takes note of a session. (yields while too many are being entered)
---@param metadata table SessionMetadata
function Discovery:see(metadata)
  if (metadata.session_id or "") == "" then return true end
  local run = self.owner:of_session(metadata.session_id)
  if run then
    follow_state(self, run, metadata)
    return true
  end
  return enter(self, metadata)
end

local EVENT = protocol.EVENT
local KNOWN_EVENTS = {
  [EVENT.CREATED] = true, [EVENT.RESOLVED] = true, [EVENT.EXPIRED] = true, [EVENT.SUSPENDED] = true,
  [EVENT.RESUMED] = true, [EVENT.CANCELLED] = true,
}

-- One connection to WatchSessions. (yields)
local function watch_once(self, delays)
  local stream, err = self.client:watch("WatchSessions")
  if stream == nil then return nil, err end
  self.stream = stream
  local codec = messages.codec("macp.v1.WatchSessionsResponse", { enums = "number" })
  local result, failure
  while true do
    local chunk, read_err = stream:read_many(64)
    if chunk == nil then
      failure = read_err
      break
    end
    self.connected = true
    delays:reset()
    for i = 1, #chunk do
      local decoded = codec:decode(chunk[i])
      local event = decoded and decoded.event
      if event and event.session and KNOWN_EVENTS[event.event_type] then
        result, failure = self:see(event.session)
        if result == nil then break end
      end
    end
    if failure then break end
  end
  self.connected, self.stream = false, nil
  stream:cancel()
  return nil, failure
end

-- What happened while nobody watched: sessions that ended, sessions that came. (yields)
local function reconcile(self)
  local found = {}
  local done, err = self.client:each_session(function(metadata) found[#found + 1] = metadata end)
  if done == nil then
    if not errors.is(err, "NOT_IMPLEMENTED") then return nil, err end
    return true
  end
  for _, metadata in ipairs(found) do
    local ok, see_err = self:see(metadata)
    if ok == nil then return nil, see_err end
  end
  return true
end

---Watches for ever, coming back after every end of the stream. (yields)
function Discovery:work(child)
  local delays = backoff.new({ base_ms = 250, max_ms = 5000 })
  local again = false
  while not child:stopping() do
    if again then reconcile(self) end
    again = true
    local _, err = watch_once(self, delays)
    if child:stopping() then break end
    if err then log.info("discovery.disconnected", { error = err.message }) end
    local slept, sleep_err = task.sleep(delays:next())
    if not slept then return nil, sleep_err end
  end
  return true
end

function Discovery:stop()
  if self.stream then self.stream:cancel() end
end

return M
