-- How stored records act on a session that is being rebuilt: on its own books, and on the state of its mode. Recorded
-- values only: no clock, no registry, no configuration.

local lifecycle = require("macp.protocol.lifecycle")
local records = require("macp.runtime.records")
local session_record = require("macp.runtime.session")
local starts = require("macp.runtime.starts")

local BATCH_ENTRIES = 512
local BATCH_WIDTH = 5

local Replay = {}
Replay.__index = Replay

local M = {}

---The mode side of a replay: messages are applied in batches, and a checkpoint makes those before it unnecessary.
---@param rev table revision
---@param session table
---@param payload table of the SessionStart
function M.new(rev, session, payload)
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

---Applies what was added. Does not yield.
---@return true|nil, table? err
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

---Adds an accepted message.
function Replay:add(envelope, t, is_synthetic)
  local batch, base = self.batch, self.size * BATCH_WIDTH
  batch[base + 1], batch[base + 2], batch[base + 3] = envelope.message_type, envelope.sender, envelope.payload
  batch[base + 4], batch[base + 5] = t, is_synthetic and 1 or 0
  self.size = self.size + 1
  if self.size >= BATCH_ENTRIES then return self:flush() end
  return true
end

---Takes the state of a checkpoint instead of everything added so far.
---@param hash_of fun(rev: table, id: string): string how the recorded hash was made
---@return true|nil, table? err
function Replay:restore(bytes, hash, hash_of)
  local id = self.session.id
  if self.started then self.rev:drop(id) end
  self.batch, self.size = {}, 0
  local ok, due = self.rev:restore(id, self.start, bytes)
  if not ok then return nil, due end
  self.started, self.session.due = true, due
  if hash_of(self.rev, id) ~= hash then
    return nil, { message = "the restored state does not have the recorded hash" }
  end
  return true
end

local function canonical_hash(rev, id) return rev:state_hash(id) end

---Hands a booked record of the history to the mode.
---@return true|nil, table? err
function Replay:record(record)
  -- Checkpoints stood between the records of a history in layout 1.
  if record.kind == records.CHECKPOINT then
    return self:restore(record.mode_state, record.mode_state_hash, canonical_hash)
  end
  if record.kind ~= records.INCOMING then return true end
  local t = session_record.time_at(self.session, record.received_at_ms)
  local ok, err = self:add(record.envelope, t, record.synthetic)
  if not ok or record.mode_state_hash == "" then return ok, err end
  ok, err = self:flush()
  if not ok then return nil, err end
  if self.rev:state_hash(self.session.id) ~= record.mode_state_hash then
    return nil, { message = "the final state does not have the recorded hash" }
  end
  return true
end

local function book_incoming(session, record)
  local envelope, at = record.envelope, record.received_at_ms
  session.ids[envelope.message_id] = at
  session.ordinals = session.ordinals + 1
  session.since_checkpoint = session.since_checkpoint + 1
  if not record.synthetic then session_record.count(session, envelope.sender, at) end
  if record.state == lifecycle.RESOLVED then session_record.finish(session, lifecycle.RESOLVED, at) end
end

---Applies a record other than the first to the session's own books.
function M.book(session, record)
  session.index = session.index + 1
  if record.kind == records.INCOMING then
    session.last_at = record.received_at_ms
    return book_incoming(session, record)
  end
  session_record.skip(session, session.index)
  if record.kind == records.INTERNAL then
    local transition = record.annotation and session_record.TRANSITIONS[record.annotation.message_type]
    session.last_at = record.received_at_ms
    if transition then transition(session, record.received_at_ms) end
  elseif record.kind == records.IDS then
    for i, id in ipairs(record.ids.ids) do session.ids[id] = record.ids.accepted_at_ms[i] end
  elseif record.kind == records.SUMMARY then
    session.has_summary = true
  else
    session.since_checkpoint = 0
  end
end

return M
