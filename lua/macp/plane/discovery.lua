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
local places = require("macp.core.places")
local repeats = require("macp.core.repeats")
local time = require("macp.core.time")
local messages = require("macp.protocol.messages")
local protocol = require("macp.protocol.lifecycle")
local binding = require("macp.plane.binding")
local lifecycle = require("macp.plane.lifecycle")
local run_module = require("macp.plane.run")
local run_trace = require("macp.plane.run_trace")
local standing = require("macp.plane.standing")

local deletions_store = require("macp.store.deletions")
local runs_store = require("macp.store.runs")

local repeated = repeats.new() -- failures that come again and again

local SESSION_NAMESPACE = "5f0f7b42-9a6d-5c1e-8b9e-2f6a7a1f3c55" -- of run ids made from session ids that are no UUID
local KNOWN_ENDED = 20000
local PARALLEL = 16
local DEFAULT_TTL_MS = 300000
local MAX_ID_BYTES = 255
local TELL_EVERY_MS = 60000 -- failures that repeat are logged once in this time, with their count

---@class macp.plane.Discovery
local Discovery = {}
Discovery.__index = Discovery

local M = {}

---@param opts { client: table, owner: table, launcher: table, questions: macp.plane.Questions, writers: table, db: table,
---  tenant: string, kind: string, supervisor: table, metrics: table|nil, tracer: macp.Tracer|nil }
--- tenant: whose the runs are that are made here
function M.new(opts)
  return setmetatable({
    client = opts.client, owner = opts.owner, launcher = opts.launcher, questions = opts.questions,
    writers = opts.writers, db = opts.db, metrics = opts.metrics, tracer = opts.tracer,
    tenant = opts.tenant, kind = opts.kind, supervisor = opts.supervisor, entering = {},
    places = places.new(PARALLEL), ended = lru.new(KNOWN_ENDED), connected = false, failed = 0, told_at = nil,
  }, Discovery)
end

local function run_id_of(session_id)
  if ids.is_uuid(session_id) then return session_id:lower() end
  return crypto.uuid5(SESSION_NAMESPACE, session_id)
end

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
  local id = run_id_of(metadata.session_id)
  local context = run_trace.begin(self.tracer, { id = id, kind = self.kind, mode_name = metadata.mode,
    created_ms = now_ms })
  return {
    tenant = self.tenant, id = id, mode = "live", runtime_kind = self.kind,
    runtime_session_id = metadata.session_id, trace_id = run_trace.id_of(context),
    context = context, trace_context = run_trace.stored(context), source_kind = "session-discovery", tags = "[]",
    metadata = json.encode({ executionRequest = request, modeName = metadata.mode }),
    lease_owner = self.owner.name, created_ms = now_ms,
  }
end

-- Creates the run of a session, unless it exists. (yields)
local function create(self, metadata, order)
  local row = row_of(self, metadata, sys.now_ms())
  local inserted, err = runs_store.insert_found(self.db, row)
  if inserted == nil then return nil, err end
  if not inserted then
    local known, find_err = runs_store.find_by_session(self.db, metadata.session_id)
    if known == nil then return nil, find_err end
    if known and (known.status == "completed" or known.status == "failed" or known.status == "cancelled") then
      self.ended:set(metadata.session_id, true)
      return false
    end
    if known then return self.owner:adopt(known.tenant, known.id) end
    local deleted, see_err = deletions_store.see(self.db, metadata.session_id)
    if deleted == nil then return nil, see_err end
    if deleted then self.ended:set(metadata.session_id, true) end
    return false
  end
  local run = run_module.new({
    tenant = row.tenant, id = row.id, session_id = row.runtime_session_id, kind = row.runtime_kind, status = "queued",
    trace_id = row.trace_id, context = row.context, created_ms = row.created_ms,
  }, self.writers:of(row.id))
  self.owner:add(run)
  lifecycle.created(run, { mode_name = metadata.mode }, run.created_ms)
  lifecycle.queued(self.writers.metrics, 0)
  self.launcher:attach(run, metadata, order)
  return run
end

local FINAL = { ["22"] = true, ["23"] = true, ["54"] = true } -- classes of SQLSTATE: this row can never be stored

-- true when another try cannot help: the database refused the row itself.
local function is_final(err)
  local sqlstate = err.cause and err.cause.sqlstate or ""
  return errors.is(err, "CANCELLED") or FINAL[sqlstate:sub(1, 2)] == true
end

-- Like create, for as long as the database cannot be asked: a session is told about only once. (yields)
local function create_at_last(self, metadata, order)
  local delays = backoff.new({ base_ms = 100, max_ms = 5000 })
  while true do
    local run, err = create(self, metadata, order)
    if run ~= nil or is_final(err) then return run, err end
    repeated:tell("warn", "discovery.create_failed", err.message, { session_id = metadata.session_id,
      error = err.message })
    local slept, sleep_err = task.sleep(delays:next())
    if not slept then return nil, sleep_err end
  end
end

---A run has ended: what is still said about its session is old news.
function Discovery:forget(session_id)
  self.ended:set(session_id, true)
end

-- What was told last about a session whose run is being made; the rest was about earlier times.
local function see_newest(self, run, session_id)
  local newest = self.entering[session_id]
  self.entering[session_id] = nil
  if run and newest then self:see(newest.metadata, newest.order) end
end

-- A session was told about: its run is made in a task of its own, at most 16 at a time. (yields while all are busy)
local function enter(self, metadata, order)
  local session_id = metadata.session_id
  if self.ended:get(session_id) then return true end
  local told = { metadata = metadata, order = order }
  if self.entering[session_id] then
    self.entering[session_id] = told -- the newest word counts once the run is there
    return true
  end
  self.entering[session_id] = told
  return self.places:start(self.supervisor, "discover", function()
    local run, err = create_at_last(self, metadata, order)
    see_newest(self, run, session_id)
    if run == nil and not errors.is(err, "CANCELLED") then
      repeated:tell("warn", "discovery.create_failed", err and err.message, { session_id = session_id,
        error = err and err.message })
    end
    return true
  end, function() self.entering[session_id] = nil end)
end

---Takes note of a session. (yields while too many are being entered)
---@param metadata table SessionMetadata
---@param order { asked: integer|nil, at_ms: integer|nil, state: string|nil } of binding.told
function Discovery:see(metadata, order)
  local session_id = metadata.session_id or ""
  if session_id == "" then return true end
  if #session_id > MAX_ID_BYTES or session_id:find("%c") then
    log.warn("discovery.refused", { reason = "no session has such an id",
      session_id = session_id:sub(1, MAX_ID_BYTES) })
    return true
  end
  binding.storable(metadata)
  local run = self.owner:of_session(session_id)
  if run == nil then return enter(self, metadata, order) end
  if not standing.hear(run, binding.told(metadata, order)) then self.questions:expect(run) end
  if run.session == nil then self.launcher.polls:session_created(run.session_id) end
  return true
end

-- The state that a lifecycle event is about; what is told of a session may be of a later time. CREATED tells of any.
local STATE_OF_EVENT = { [protocol.EVENT.RESUMED] = protocol.NAMES[protocol.OPEN] }
for state, event in pairs(protocol.EVENT_OF_STATE) do STATE_OF_EVENT[event] = protocol.NAMES[state] end

-- One event of the watch. (yields while too many sessions are being entered)
local function take(self, event, asked)
  if event == nil or event.session == nil then return true end
  if event.event_type == protocol.EVENT.CREATED then return self:see(event.session, { asked = asked }) end
  local state = STATE_OF_EVENT[event.event_type]
  if state == nil then return true end
  local at_ms = tonumber(event.observed_at_unix_ms) or 0
  return self:see(event.session, { state = state, at_ms = at_ms > 0 and at_ms or nil, asked = asked })
end

-- One connection to WatchSessions. (yields)
local function watch_once(self, delays)
  local asked = standing.moment()
  local stream, err = self.client:watch("WatchSessions")
  if stream == nil then return nil, err end
  self.stream = stream
  local codec = messages.codec("macp.v1.WatchSessionsResponse", { enums = "number" })
  local _, failure
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
      if decoded then _, failure = take(self, decoded.event, asked) end
      if failure then break end
    end
    if failure then break end
  end
  self.connected, self.stream = false, nil
  stream:cancel()
  return nil, failure
end

-- What happened while nobody watched: sessions that ended, sessions that came. (yields)
local function read_all(self)
  local asked = standing.moment()
  local done, err = self.client:each_session(function(metadata) return self:see(metadata, { asked = asked }) end)
  if done == nil and errors.is(err, "NOT_IMPLEMENTED") then return true end
  return done, err
end

-- The watch will tell of every session as well, but not of those that the runtime has dropped meanwhile. (yields)
local function reconcile(self)
  local done, err = read_all(self)
  if done or errors.is(err, "CANCELLED") then return end
  if self.metrics then self.metrics.reconcile_failures:inc() end
  self.failed = self.failed + 1
  local now = sys.mono_ms()
  if self.told_at and now - self.told_at < TELL_EVERY_MS then return end
  log.warn("discovery.reconcile_failed", { error = err.message, code = err.code, failures = self.failed })
  self.told_at, self.failed = now, 0
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
