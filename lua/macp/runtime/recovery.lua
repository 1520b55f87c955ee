-- From the journal back to memory: one session by replaying its history under its recorded revision. Which sessions
-- come back at start is startup.lua.

local log = require("host.log")

local checkpoint_store = require("macp.runtime.checkpoint_store")
local checkpoints = require("macp.runtime.checkpoints")
local lifecycle = require("macp.protocol.lifecycle")
local messages = require("macp.protocol.messages")
local records = require("macp.runtime.records")
local replays = require("macp.runtime.replay")
local session_record = require("macp.runtime.session")

local CHUNK_RECORDS = 512
local CHUNK_BYTES = 1024 * 1024

-- What survives a rebuild of a session's memory: who listens, and its place in the books.
local KEPT = { subscribers = true, heap_at = true, heap_index = true, counted_open = true, announced = true }

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

local function quarantine(loader, session, reason, err)
  session.quarantined, session.due = reason, nil
  local detail = err and (err.message or err.code)
  log.error("session.quarantined", {
    session_id = session.id, mode = session.mode, revision = session.revision, reason = reason, detail = detail,
  })
  loader:release(session)
  if loader.strict then
    return nil, { code = "STRICT", message = string.format("session %s: %s: %s", session.id, reason, detail or "") }
  end
  return true
end

---Gives up the mode's side of a session.
function Loader:release(session)
  if session.rev == nil then return end
  session.rev:drop(session.id)
  self.modes:unpin(session.rev)
  session.rev = nil
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
  return replays.new(rev, session, payload)
end

-- Runs fn(record, index) over a key's records from the first; `chunk` are the first ones when they are at hand.
-- (yields)
local function each_record(loader, id, chunk, fn)
  local index, err = 1, nil
  while true do
    if chunk == nil then chunk, err = loader.journal:read(id, index, CHUNK_RECORDS, CHUNK_BYTES) end
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
    chunk = nil
  end
end

-- One record of a history, decoded. (yields)
local function read_one(loader, id, index)
  local chunk, err = loader.journal:read(id, index, 1)
  if chunk == nil then return nil, err end
  if chunk[1] == nil then return broken(id, index, "the record is missing") end
  local record, reason = records.decode(chunk[1])
  if record == nil then return broken(id, index, reason.message) end
  return record
end

-- A history does not lead to what was recorded of it.
local function mismatch(loader, session, reason, err)
  loader.metrics:mismatch()
  return quarantine(loader, session, reason, err)
end

-- Puts the checkpoint's state in place of what its records would lead to; `opts` learns when it is of no use.
local function restore_checkpoint(loader, session, replay, opts)
  local ok, why = checkpoints.restore(opts.stored, session, replay)
  if ok then return true end
  loader.metrics:mismatch()
  log.error("checkpoint.unusable", { session_id = session.id, message = why })
  loader:release(session)
  if loader.strict then
    return nil, { code = "STRICT", message = string.format("session %s: its checkpoint: %s", session.id, why) }
  end
  opts.is_unusable = true
  return nil, { code = "UNUSABLE" }
end

-- Reads a history into a session. With `stored`, a checkpoint, the mode's state comes from there. (yields)
-- Returns session; or nil, err; or nil, nil when the checkpoint is of no use.
local function read_history(loader, id, opts)
  local session, replay
  local covered = opts.stored and opts.stored.coverage.index or 0
  local function on_start(record)
    local payload
    session, payload = begin(loader, id, record)
    if session == nil then return nil, payload end
    if opts.history_only then return true end
    local reason
    replay, reason = open_mode(loader, session, payload, record.bindings.descriptor)
    if replay == nil and reason then return nil, reason end
    return true
  end
  local function on_covered() return restore_checkpoint(loader, session, replay, opts) end
  local function apply(record, index)
    if index > covered then
      local replayed, why = replay:record(record)
      if not replayed then
        replay = nil
        return mismatch(loader, session, "the history does not replay", why)
      end
    elseif index == covered then
      return on_covered()
    end
    return true
  end
  local ok, err = each_record(loader, id, opts.chunk, function(record, index)
    if index == 1 then
      local begun, why = on_start(record)
      if begun and replay and covered == 1 then return on_covered() end
      return begun, why
    end
    if record.envelope and record.envelope.message_type == "SessionStart" then
      return broken(id, index, "a second SessionStart")
    end
    replays.book(session, record)
    if replay == nil then return true end
    return apply(record, index)
  end)
  if not ok then
    if session then loader:release(session) end
    return nil, err
  end
  if session == nil then return nil, { code = "NOT_FOUND", message = "session " .. id .. " has no records" } end
  if replay then
    local flushed, why = replay:flush()
    if not flushed then ok, err = mismatch(loader, session, "the history does not replay", why) end
    if not ok then return nil, err end
  end
  session.published = session.ordinals
  return session
end

-- A finished session from its first and last record. (yields)
local function from_summary(loader, id, last, count)
  local first, err = read_one(loader, id, 1)
  if first == nil then return nil, err end
  local session, reason = begin(loader, id, first)
  if session == nil then return nil, reason end
  session_record.finish_from(session, last.summary)
  session.index = count
  session_record.skip(session, count)
  return session
end

-- The last record of a history, from a chunk that holds all of it or from the journal. (yields)
local function last_record(loader, id, chunk, count)
  if chunk == nil or #chunk < count then return read_one(loader, id, count) end
  local record, reason = records.decode(chunk[count])
  if record == nil then return broken(id, count, reason.message) end
  return record
end

---Rebuilds a session from its history; a finished one without its mode, and without reading more than its start when
---it has a summary (then its `ids` are nil). (yields)
---@param id string
---@param opts? { replay_finished?: boolean } run the mode of a finished session, too
---@return table|nil session, table? err
function Loader:load(id, opts)
  local count = self.journal:count(id)
  if count == 0 then return nil, { code = "NOT_FOUND", message = "session " .. id .. " has no records" } end
  local chunk, err = self.journal:read(id, 1, math.min(CHUNK_RECORDS, count), CHUNK_BYTES)
  if chunk == nil then return nil, err end
  local last
  last, err = last_record(self, id, chunk, count)
  if last == nil then return nil, err end
  local replays_finished = opts ~= nil and opts.replay_finished
  local is_summed_up = last.summary and (last.summary.is_dropped or not replays_finished)
  if is_summed_up then return from_summary(self, id, last, count) end
  local reading = { chunk = chunk, history_only = lifecycle.is_terminal(last.state) and not replays_finished }
  if not lifecycle.is_terminal(last.state) then reading.stored = checkpoint_store.read(self.journal, id) end
  local session
  session, err = read_history(self, id, reading)
  if not reading.is_unusable then return session, err end
  return read_history(self, id, { chunk = chunk })
end

---Makes sure the message ids of a session are known. (yields)
---@return true|nil, table? err
function Loader:load_ids(session)
  if session.ids then return true end
  local whole, err = read_history(self, session.id, { history_only = true })
  if whole == nil then return nil, err end
  session.ids = whole.ids
  return true
end

---Replays a finished session under its mode and compares what was recorded of it; nothing stays in memory. (yields)
---@return true|nil, table? err
function Loader:verify(id)
  local session, err = self:load(id, { replay_finished = true })
  if session == nil then return nil, err end
  self:release(session)
  return true
end

---Makes an existing session equal to its history again, in place: subscribers keep listening to it. (yields)
---@return true|nil, table? err
function Loader:reload(session)
  self:release(session)
  local fresh, err = self:load(session.id)
  if fresh == nil then return nil, err end
  for key in pairs(session) do
    if not KEPT[key] then session[key] = nil end
  end
  for key, value in pairs(fresh) do
    if not KEPT[key] then session[key] = value end
  end
  return true
end

return M
