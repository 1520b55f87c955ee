-- Checkpoints: the mode's state beside the history, so that rebuilding a long session does not replay all of it. They
-- are a convenience: the history is complete without them, so no message waits for one, none is written on the way
-- of a message, and a busy session gets its own when it comes to rest, or much later. The state of a short session is
-- encoded in one go, a large one in small steps; when a message comes in between, the work begins anew, and a session
-- that is never quiet is held once, while others go on.

local crypto = require("host.crypto")
local log = require("host.log")
local sys = require("host.sys")
local task = require("host.task")

local checkpoint_store = require("macp.runtime.checkpoint_store")
local fault = require("macp.core.fault")
local lifecycle = require("macp.protocol.lifecycle")
local records = require("macp.runtime.records")

-- A checkpoint costs as much as the state is big. Waiting until half of the history is new keeps the total linear in
-- the length of a session, and bounds what a rebuild replays to that half.
local HISTORY_SHARE = 2
local MAX_STATE_BYTES = 16 * 1024 * 1024 -- well below the largest record
local PART_BYTES = 256 * 1024
local COLLECT_BYTES = 32 * 1024 -- whose collection is done in one turn: a millisecond or less
local SHORT_ENVELOPES = 2048 -- of a session whose state is encoded in one go, in a millisecond or two
local SHORT_BYTES = 256 * 1024 -- and at most so many bytes of state
local ATTEMPTS, PAUSE_MS = 3, 20
local REST_MS = 100
local BUSY_INTERVALS = 16 -- so many intervals later a session that never rests gets its checkpoint, too

local Checkpoints = {}
Checkpoints.__index = Checkpoints

local M = {}

---@param opts { journal: table, interval: integer, rest_ms: integer|nil, hold: fun(session, fn): any } (hold yields)
---  interval in accepted messages, 0 turns checkpoints off; rest_ms: without a message, that is how long a session has
---  come to rest, the default is 100; hold runs fn while nobody else gets the session
function M.new(opts)
  return setmetatable({
    journal = opts.journal,
    interval = opts.interval,
    rest_ms = opts.rest_ms or REST_MS,
    hold = opts.hold,
    due = {}, -- sessions that want one
    round = nil, -- those that are being looked at
    wake = task.cond(),
    closed = false,
  }, Checkpoints)
end

---Asks for a checkpoint when enough has happened since the last one. Cheap, never waits.
function Checkpoints:consider(session)
  local since = session.since_checkpoint
  if self.interval == 0 or since < self.interval or since * HISTORY_SHARE < session.ordinals then return end
  if session.state ~= lifecycle.OPEN then return end
  if session.checkpoint_seen then return end -- it waits already
  session.checkpoint_seen = session.index
  self.due[#self.due + 1] = session
  self.wake:signal()
end

-- A state in parts of one size: what is written, and the hash, which is that of the parts' hashes. Each part is hashed
-- and encoded when it is complete: no step grows with the state.
local Parts = {}
Parts.__index = Parts

local function new_parts(finish)
  return setmetatable({ finish = finish, list = {}, hashes = {}, rest = {}, bytes = 0, taken = 0 }, Parts)
end

local function complete(parts, part)
  parts.list[#parts.list + 1] = parts.finish(part)
  parts.taken = parts.taken + 3 * #part -- put together, cut off, and encoded
  parts.hashes[#parts.hashes + 1] = crypto.sha256(part)
end

function Parts:add(piece)
  local rest = self.rest
  rest[#rest + 1], self.bytes, self.taken = piece, self.bytes + #piece, self.taken + #piece
  if self.bytes < PART_BYTES then return end
  local bytes, at = table.concat(rest), 1
  while #bytes - at + 1 >= PART_BYTES do
    complete(self, bytes:sub(at, at + PART_BYTES - 1))
    at = at + PART_BYTES
  end
  self.rest, self.bytes = { bytes:sub(at) }, #bytes - at + 1
end

function Parts:close()
  complete(self, table.concat(self.rest))
  return self.list, crypto.sha256_hex(table.concat(self.hashes))
end

-- Collects what parts have left behind, a little in each turn; whether to go on.
local function collect(parts, go_on)
  repeat
    local bytes = math.min(parts.taken, COLLECT_BYTES)
    parts.taken = parts.taken - bytes
    sys.collect_for(bytes)
    if not go_on() then return false end
  until parts.taken == 0
  return true
end

-- The state of a session in parts. `go_on` runs between two steps and may yield; false gives up.
---@return string[]|nil parts, string? hash_or_reason
local function encode(rev, id, finish, go_on)
  local ok, err = rev:encode_begin(id)
  if not ok then return nil, err.message end
  local parts, total = new_parts(finish), 0
  while true do
    local piece, is_last = rev:encode_step(id)
    if piece == nil then return nil, is_last.message end
    parts:add(piece)
    total = total + #piece
    if total > MAX_STATE_BYTES then
      rev:encode_stop(id)
      return nil, string.format("the state has more than %d bytes", MAX_STATE_BYTES)
    end
    if is_last then return parts:close() end
    if not collect(parts, go_on) then
      rev:encode_stop(id)
      return nil, nil
    end
  end
end

-- The same of a state that is known to be small.
local function encode_at_once(rev, id, finish)
  local bytes, err = rev:encode(id)
  if bytes == nil then return nil, err.message end
  local parts = new_parts(finish)
  parts:add(bytes)
  return parts:close()
end

-- Whether a session is still as it was when its encoding began.
local function is_same(session, rev, index)
  return session.rev == rev and session.index == index and not session.stale and session.state == lifecycle.OPEN
end

-- Encodes a session between its messages, as records. Returns them; nil, reason; or nil, nil when it changed. (yields)
local function encode_between(session)
  local rev, index, at = session.rev, session.index, session.last_at
  local function go_on() return task.sleep(0) and is_same(session, rev, index) end
  local function finish(part) return records.checkpoint({ received_at_ms = at, mode_state = part }) end
  local is_short = session.ordinals <= SHORT_ENVELOPES and rev:weight(session.id) <= SHORT_BYTES
  local list, hash
  if is_short then
    list, hash = encode_at_once(rev, session.id, finish)
  else
    list, hash = encode(rev, session.id, finish, go_on)
  end
  if list == nil then return nil, hash end
  table.insert(list, 1, records.checkpoint({
    received_at_ms = at, mode_state_hash = hash,
    coverage = {
      started_at_ms = session.started_at, index = session.index, ordinals = session.ordinals, parts = #list + 1,
    },
  }))
  return list
end

-- Whether a session is still one that wants checkpoints.
local function goes_on(session) return session.rev ~= nil and not session.stale and session.state == lifecycle.OPEN end

-- Encodes and stores; true when there is nothing left to do. (yields)
local function write(self, session)
  if not goes_on(session) then return true end
  local list, reason = encode_between(session)
  if list == nil then
    if reason then log.warn("checkpoint.failed", { session_id = session.id, message = reason }) end
    return reason ~= nil
  end
  -- What it covers must not be lost already: then the history would be shorter than the checkpoint says.
  if session.lsn > 0 and self.journal:status(session.lsn) == "failed" then return true end
  fault("checkpoint.before_replace")
  local _, err = checkpoint_store.write(self.journal, session.id, list, function() return goes_on(session) end)
  fault("checkpoint.replaced")
  if err and err.code ~= "CANCELLED" then
    log.warn("checkpoint.failed", { session_id = session.id, message = err.message })
  end
  return true
end

local function attend(self, session)
  for _ = 1, ATTEMPTS do
    if write(self, session) then return end
    if not task.sleep(PAUSE_MS) then return end
  end
  self.hold(session, function() return write(self, session) end)
end

-- Whether a session that is due has come to rest since the last look, or is over, or has been busy for too long.
local function is_time(self, session)
  local rests = session.checkpoint_seen == session.index
  session.checkpoint_seen = session.index
  return rests or session.state ~= lifecycle.OPEN or session.since_checkpoint >= self.interval * BUSY_INTERVALS
end

local function look(self)
  local round = self.due
  self.due, self.round = {}, round
  for _, session in ipairs(round) do
    if is_time(self, session) then
      session.checkpoint_seen, session.since_checkpoint = nil, 0
      attend(self, session)
    else
      self.due[#self.due + 1] = session
    end
  end
  self.round = nil
end

---Writes what is due, one after another, until close. (yields)
function Checkpoints:run()
  while not self.closed do
    if #self.due == 0 then
      if not self.wake:wait() and task.current():cancelled() then return end
    elseif task.sleep(self.rest_ms) then
      look(self)
    else
      return
    end
  end
end

---Whether checkpoints are waiting to be written.
function Checkpoints:is_busy() return #self.due > 0 or self.round ~= nil end

function Checkpoints:close()
  self.closed = true
  self.wake:broadcast()
end

local function hash_of(rev, id)
  local list, hash = encode(rev, id, function() return true end, function() return true end)
  return list and hash
end

---Gives a session that has been read up to what a checkpoint covers the state of that checkpoint.
---@return true|nil, string? reason
function M.restore(stored, session, replay)
  local coverage = stored.coverage
  if coverage.started_at_ms ~= session.started_at then return nil, "it belongs to an earlier session" end
  if coverage.ordinals ~= session.ordinals then
    return nil, string.format("it covers %d envelopes, the history has %d there", coverage.ordinals, session.ordinals)
  end
  local ok, err = replay:restore(stored.state, stored.hash, hash_of)
  if not ok then return nil, err.message end
  session.since_checkpoint = 0
  return true
end

return M
