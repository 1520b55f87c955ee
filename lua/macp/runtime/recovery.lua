-- From the journal back to memory: one session by replaying its history under its recorded revision, or all of them
-- at start. Replay uses recorded values only: no clock, no registry, no configuration.

local log = require("host.log")
local task = require("host.task")

local lifecycle = require("macp.protocol.lifecycle")
local messages = require("macp.protocol.messages")
local records = require("macp.runtime.records")
local session_record = require("macp.runtime.session")
local starts = require("macp.runtime.starts")

local CHUNK_RECORDS = 512
local CHUNK_BYTES = 1024 * 1024
local BATCH_ENTRIES = 512
local BATCH_WIDTH = 5
local WORKERS = 8

-- What survives a rebuild of a session's memory: who listens, and its place in the books.
local KEPT = { subscribers = true, heap_at = true, heap_index = true, counted_open = true }

local Loader = {}
Loader.__index = Loader

local M = {}

---@param opts { journal: table, modes: table, policies: table, strict: boolean, metrics: table }
function M.new(opts)
  return setmetatable({
    journal = opts.journal,
    modes = opts.modes,
    policies = opts.policies,
    metrics = opts.metrics,
    strict = opts.strict,
    start_codec = messages.codec("macp.v1.SessionStartPayload"),
  }, Loader)
end

local function broken(id, index, text)
  return nil, { code = "CORRUPT", message = string.format("session %s, record %d: %s", id, index, text) }
end

-- The mode side of a replay: entries are applied in batches, and a checkpoint makes those before it unnecessary.
local Replay = {}
Replay.__index = Replay

local function new_replay(rev, session, payload)
  return setmetatable({
    rev = rev, session = session, start = starts.start_arguments(session, payload), batch = {}, size = 0,
    started = false,
  }, Replay)
end

local function start_mode(replay)
  local ok, due = replay.rev:start(replay.session.id, replay.start)
  if not ok then return nil, due end
  replay.started, replay.session.due = true, due
  return true
end

function Replay:flush()
  if not self.started then
    local ok, err = start_mode(self)
    if not ok then return nil, err end
  end
  if self.size == 0 then return true end
  local count, due, at = self.rev:apply_many(self.session.id, self.batch)
  if count == nil then return nil, due, at end
  self.session.due = due
  self.batch, self.size = {}, 0
  return true
end

function Replay:add(envelope, t, is_synthetic)
  local batch, base = self.batch, self.size * BATCH_WIDTH
  batch[base + 1], batch[base + 2], batch[base + 3] = envelope.message_type, envelope.sender, envelope.payload
  batch[base + 4], batch[base + 5] = t, is_synthetic and 1 or 0
  self.size = self.size + 1
  if self.size >= BATCH_ENTRIES then return self:flush() end
  return true
end

function Replay:restore(record)
  local id = self.session.id
  if self.started then self.rev:drop(id) end
  self.batch, self.size = {}, 0
  local ok, due = self.rev:restore(id, self.start, record.mode_state)
  if not ok then return nil, due end
  self.started, self.session.due = true, due
  if self.rev:state_hash(id) ~= record.mode_state_hash then
    return nil, { message = "the restored state does not have the recorded hash" }
  end
  return true
end

local INTERNAL = {
  TtlExpired = function(session, at) session_record.finish(session, lifecycle.EXPIRED, at) end,
  SessionCancel = function(session, at)
    session.suspended_at = nil
    session_record.finish(session, lifecycle.CANCELLED, at)
  end,
  SessionSuspend = session_record.suspend,
  SessionResume = session_record.resume,
}

-- Applies a record other than the first to the session's own books.
local function book(session, record)
  local at = record.received_at_ms
  session.index = session.index + 1
  session.last_at = at
  if record.kind ~= records.INCOMING then
    session.skips[#session.skips + 1] = session.index
    local transition = record.annotation and INTERNAL[record.annotation.message_type]
    if transition then transition(session, at) end
    if record.kind == records.CHECKPOINT then session.since_checkpoint = 0 end
    return
  end
  local envelope = record.envelope
  session.ids[envelope.message_id] = at
  session.ordinals = session.ordinals + 1
  session.since_checkpoint = session.since_checkpoint + 1
  if not record.synthetic then session_record.count(session, envelope.sender, at) end
  if record.state == lifecycle.RESOLVED then session_record.finish(session, lifecycle.RESOLVED, at) end
end

-- The session a first record describes, and the decoded payload.
local function begin(loader, id, record)
  local envelope, bindings = record.envelope, record.bindings
  if not envelope or envelope.message_type ~= "SessionStart" or not bindings then
    return broken(id, 1, "the history does not begin with a SessionStart")
  end
  local payload, err = loader.start_codec:decode(envelope.payload)
  if payload == nil then return broken(id, 1, err.message) end
  local policy = records.policy_of(bindings.policy, payload.policy_version)
  if policy.problem then log.error("session.ungoverned", { session_id = id, reason = policy.problem }) end
  local session = session_record.new({
    id = id, mode = envelope.mode, initiator = envelope.sender, payload = payload, bindings = bindings,
    policy = loader.policies:intern(policy), started_at = record.received_at_ms,
  })
  session.start_id = envelope.message_id
  session.ids[envelope.message_id] = record.received_at_ms
  session.ordinals, session.index = 1, 1
  return session, payload
end

-- Hands a booked record to the mode.
local function replay_record(replay, session, record)
  if record.kind == records.CHECKPOINT then return replay:restore(record) end
  if record.kind ~= records.INCOMING then return true end
  return replay:add(record.envelope, session_record.time_at(session, record.received_at_ms), record.synthetic)
end

local function quarantine(loader, session, reason, err)
  session.quarantined, session.due = reason, nil
  local detail = err and (err.message or err.code)
  log.error("session.quarantined", {
    session_id = session.id, mode = session.mode, revision = session.revision, reason = reason, detail = detail,
  })
  if session.rev then
    session.rev:drop(session.id)
    loader.modes:unpin(session.rev)
    session.rev = nil
  end
  if loader.strict then
    return nil, { code = "STRICT", message = string.format("session %s: %s: %s", session.id, reason, detail or "") }
  end
  return true
end

-- Loads the recorded revision and prepares the mode's side. (yields)
local function open_mode(loader, session, payload, descriptor)
  local rev, err = loader.modes:pinned(session.revision, descriptor)
  if rev == nil then
    return nil, select(2, quarantine(loader, session, "the recorded revision of the mode is missing", err))
  end
  loader.modes:pin(rev)
  session.rev = rev
  rev:drop(session.id)
  return new_replay(rev, session, payload)
end

-- Runs fn(record, index) over a key's records from the first. (yields)
local function each_record(loader, id, fn)
  local index = 1
  while true do
    local chunk, err = loader.journal:read(id, index, CHUNK_RECORDS, CHUNK_BYTES)
    if chunk == nil then return nil, err end
    if #chunk == 0 then return true end
    for _, bytes in ipairs(chunk) do
      local record, reason = records.decode(bytes)
      if record == nil then return broken(id, index, reason.message) end
      local ok
      ok, err = fn(record, index)
      if not ok then return nil, err end
      index = index + 1
    end
  end
end

---Rebuilds a session from its history. With history_only the mode is not replayed, which is enough for sessions that
---have ended. (yields)
---@param id string
---@param opts? { history_only?: boolean }
---@return table|nil session, table? err
function Loader:load(id, opts)
  local history_only = opts and opts.history_only
  local session, replay
  local ok, err = each_record(self, id, function(record, index)
    if index == 1 then
      local payload
      session, payload = begin(self, id, record)
      if session == nil then return nil, payload end
      if history_only then return true end
      local reason
      replay, reason = open_mode(self, session, payload, record.bindings.descriptor)
      if replay == nil and reason then return nil, reason end
      return true
    end
    if record.envelope and record.envelope.message_type == "SessionStart" then
      return broken(id, index, "a second SessionStart")
    end
    local t_session = session
    book(t_session, record)
    if replay == nil then return true end
    local replayed, why = replay_record(replay, t_session, record)
    if replayed then return true end
    replay = nil
    self.metrics:mismatch()
    return quarantine(self, t_session, "the history does not replay", why)
  end)
  if not ok then return nil, err end
  if session == nil then return nil, { code = "NOT_FOUND", message = "session " .. id .. " has no records" } end
  if replay then
    local flushed, why = replay:flush()
    if not flushed then
      self.metrics:mismatch()
      ok, err = quarantine(self, session, "the history does not replay", why)
      if not ok then return nil, err end
    end
  end
  session.published = session.ordinals
  return session
end

---Makes an existing session equal to its history again, in place: subscribers keep listening to it. (yields)
---@return true|nil, table? err
function Loader:reload(session)
  if session.rev then
    session.rev:drop(session.id)
    self.modes:unpin(session.rev)
    session.rev = nil
  end
  local fresh, err = self:load(session.id)
  if fresh == nil then return nil, err end
  for key in pairs(session) do
    if not KEPT[key] then session[key] = nil end
  end
  for key, value in pairs(fresh) do
    if not KEPT[key] then session[key] = value end
  end
  if lifecycle.is_terminal(session.state) and session.rev then
    session.rev:drop(session.id)
    self.modes:unpin(session.rev)
    session.rev = nil
  end
  return true
end

-- The last record of every key. (yields)
local function last_records(journal)
  local last, order = {}, {}
  local ok, err = journal:scan(function(key, _, bytes)
    if last[key] == nil then order[#order + 1] = key end
    last[key] = bytes
  end)
  if not ok then return nil, err end
  return last, order
end

-- One key at start: nothing for sessions that ended long ago, the books for those that ended lately, all for open ones.
local function recover_one(loader, id, bytes, report)
  local record, reason = records.decode(bytes)
  if record == nil then return broken(id, 0, reason.message) end
  local has_ended = lifecycle.is_terminal(record.state)
  if has_ended then
    report.on_ended(id, record.received_at_ms)
    if not report.is_recent(record.received_at_ms) then return true end
  end
  local session, err = loader:load(id, { history_only = has_ended })
  if session == nil then return nil, err end
  report.on_session(session)
  return true
end

---Recovers every session that belongs in memory. A history that cannot be read is left out and reported, or ends the
---start in strict mode. (yields)
---@param report { on_session: fun(session), on_ended: fun(id, at), is_recent: fun(at): boolean }
---@return { recovered: integer, skipped: integer }|nil, table? err
function Loader:recover(report)
  local last, order = last_records(self.journal)
  if last == nil then return nil, order end
  local cursor, recovered, skipped, failure = 0, 0, 0, nil
  local function work()
    while failure == nil and cursor < #order do
      cursor = cursor + 1
      local id = order[cursor]
      local ok, err = recover_one(self, id, last[id], report)
      if ok then
        recovered = recovered + 1
      elseif self.strict then
        failure = err
      else
        skipped = skipped + 1
        log.warn("recovery.skipped", { session_id = id, message = err.message })
      end
    end
    return true
  end
  local ok, err = task.group(function(group)
    for _ = 1, WORKERS do group:spawn(work) end
  end)
  if not ok then return nil, err end
  if failure then return nil, failure end
  return { recovered = recovered, skipped = skipped }
end

return M
