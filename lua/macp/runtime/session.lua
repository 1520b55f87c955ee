-- One session: its record, its two clocks and its transitions. No I/O; callers pass the time.
-- Wall time is what records carry. Session time is what modes see: unsuspended milliseconds since the start.

local lifecycle = require("macp.protocol.lifecycle")

local OPEN, SUSPENDED = lifecycle.OPEN, lifecycle.SUSPENDED
local EXPIRED, CANCELLED = lifecycle.EXPIRED, lifecycle.CANCELLED

local MAX_SUSPENSIONS = 1024

local M = { MAX_SUSPENSIONS = MAX_SUSPENSIONS }

---@class macp.runtime.Session
---@field id string
---@field mode string
---@field rev table|nil revision of the mode, nil when quarantined
---@field state integer
---@field ids table<string, integer>|nil accepted message id -> acceptance time; nil: not loaded (finished sessions)
---@field ordinals integer accepted envelopes
---@field published integer accepted envelopes that are durable and were offered to subscribers
---@field index integer records in the journal, of all kinds
---@field skips integer[] journal indexes of the records that take no ordinal, ascending
---@field is_dropped boolean the envelopes are gone; what is left are facts and message ids
---@field has_summary boolean the history ends with a summary
---@field is_noted boolean the index of finished sessions has it
---@field lsn integer covers everything this record shows
---@field due integer|nil session time of the mode's earliest timer
---@field stale boolean what memory holds is not what the journal holds; rebuild before use
---@field quarantined string|nil why the session takes no messages

-- What most sessions have in common costs them nothing: there may be many, and most are idle.
local NONE = setmetatable({}, { __newindex = function() error("this list is shared: use skip or count", 2) end })
local SESSION = {
  __index = {
    context_id = "", extension_keys = NONE, suspended_total = 0, suspensions = 0, skips = NONE, others = NONE,
    is_dropped = false, has_summary = false, is_noted = false, stale = false,
  },
}

local function sorted_keys(map)
  if next(map) == nil then return nil end
  local keys = {}
  for key in pairs(map) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

-- Adds to a list that sessions share as long as it is empty.
local function add_to(session, name, value)
  local list = session[name]
  if list == NONE then
    list = {}
    session[name] = list
  end
  list[#list + 1] = value
end

---@param start { id: string, mode: string, initiator: string, payload: table, bindings: table, policy: table,
---  started_at: integer }
function M.new(start)
  local payload, bindings = start.payload, start.bindings
  local participants, is_participant, distinct = payload.participants, {}, {}
  for _, name in ipairs(participants) do
    if not is_participant[name] then distinct[#distinct + 1] = name end
    is_participant[name] = true
  end
  return setmetatable({
    id = start.id,
    mode = start.mode,
    mode_version = bindings.mode_version,
    revision = bindings.mode_revision,
    configuration_version = payload.configuration_version,
    policy = start.policy,
    initiator = start.initiator,
    participants = participants,
    -- Starts of registered modes may name somebody twice; books are kept once.
    distinct = #distinct < #participants and distinct or nil,
    is_participant = is_participant,
    context_id = payload.context_id ~= "" and payload.context_id or nil,
    extension_keys = sorted_keys(payload.extensions),
    ttl_ms = payload.ttl_ms,
    started_at = start.started_at,
    expires_at = bindings.expires_at_ms,
    max_suspend_ms = bindings.max_suspend_ms,
    state = OPEN,
    last_at = start.started_at,
    ids = {},
    ordinals = 0,
    published = 0,
    index = 0,
    since_checkpoint = 0,
    counts = {},
    last_seen = {},
    lsn = 0,
  }, SESSION)
end

---Session time at a wall time that is not before the last transition.
function M.time_at(session, wall_ms)
  local paused = session.suspended_at and math.max(0, wall_ms - session.suspended_at) or 0
  return wall_ms - session.started_at - session.suspended_total - paused
end

---Wall time at which session time reaches t, if nothing suspends it before.
function M.wall_of(session, t) return session.started_at + session.suspended_total + t end

---Notes that a record takes no ordinal.
function M.skip(session, index) add_to(session, "skips", index) end

---Counts an accepted envelope of a sender. SessionStart and synthetic messages are not activity.
function M.count(session, sender, at)
  local count = session.counts[sender]
  if count == nil then
    count = 0
    if not session.is_participant[sender] then add_to(session, "others", sender) end
  end
  session.counts[sender] = count + 1
  session.last_seen[sender] = at
end

---Begins a suspension.
function M.suspend(session, at)
  session.state, session.suspended_at = SUSPENDED, at
  session.suspensions = session.suspensions + 1
end

---Ends a suspension. The deadline moves by what it lasted, unless the cap on all of them is exceeded.
---@return integer banked_ms
function M.resume(session, at)
  local banked = math.max(0, at - session.suspended_at)
  session.suspended_total = session.suspended_total + banked
  session.suspended_at = nil
  if session.suspended_total > session.max_suspend_ms then
    session.state, session.ended_at = EXPIRED, at
  else
    session.state, session.expires_at = OPEN, session.expires_at + banked
  end
  return banked
end

---Ends a session in that state; nothing leaves it.
function M.finish(session, state, at)
  session.state, session.ended_at, session.due, session.suspended_at = state, at, nil, nil
end

---What the runtime's own notes do to a session, by the type of the note: fn(session, at).
M.TRANSITIONS = {
  TtlExpired = function(session, at) M.finish(session, EXPIRED, at) end,
  SessionCancel = function(session, at) M.finish(session, CANCELLED, at) end,
  SessionSuspend = M.suspend,
  SessionResume = M.resume,
}

---Whether time alone ends the session now.
function M.is_overdue(session, now)
  if session.state == OPEN then return now > session.expires_at end
  if session.state == SUSPENDED then
    return session.suspended_total + math.max(0, now - session.suspended_at) > session.max_suspend_ms
  end
  return false
end

---When the session next needs attention, or nil: its deadline, its mode's earliest timer, its suspension cap.
function M.next_event_at(session)
  if session.state == OPEN then
    local at = session.expires_at + 1
    if session.due then at = math.min(at, M.wall_of(session, session.due)) end
    return at
  end
  if session.state == SUSPENDED then
    return session.suspended_at + session.max_suspend_ms - session.suspended_total + 1
  end
  return nil
end

---Who may read a session: its initiator, its participants, observers.
function M.may_read(session, identity)
  local sender = identity.sender
  return identity.observer or sender == session.initiator or session.is_participant[sender] == true
end

local function activity(session)
  local list = {}
  local function add(name)
    local count = session.counts[name]
    if count then
      list[#list + 1] = {
        participant_id = name, last_message_at_unix_ms = session.last_seen[name], message_count = count,
      }
    end
  end
  for _, name in ipairs(session.distinct or session.participants) do add(name) end
  for _, name in ipairs(session.others) do add(name) end
  return list
end

---The public facts, as macp.v1.SessionMetadata.
function M.metadata(session)
  return {
    session_id = session.id,
    mode = session.mode,
    state = session.state,
    started_at_unix_ms = session.started_at,
    expires_at_unix_ms = session.expires_at,
    mode_version = session.mode_version,
    configuration_version = session.configuration_version,
    policy_version = session.policy.policy_id,
    participants = session.participants,
    participant_activity = activity(session),
    initiator = session.initiator,
    context_id = session.context_id,
    extension_keys = session.extension_keys,
  }
end

---What is left to say about a finished session, as macp.internal.v1.Summary.
function M.summary(session)
  local list = {}
  local function add(name)
    local count = session.counts[name]
    if count then list[#list + 1] = { sender = name, count = count, last_seen_ms = session.last_seen[name] } end
  end
  for _, name in ipairs(session.distinct or session.participants) do add(name) end
  for _, name in ipairs(session.others) do add(name) end
  return {
    state = session.state, ended_at_ms = session.ended_at, expires_at_ms = session.expires_at,
    suspended_ms = session.suspended_total, suspensions = session.suspensions, ordinals = session.ordinals,
    activity = list, skips = session.skips, is_dropped = session.is_dropped,
  }
end

---Makes a session that only has its start what a summary says of it. Its message ids stay unknown.
function M.finish_from(session, summary)
  session.state, session.ended_at, session.last_at = summary.state, summary.ended_at_ms, summary.ended_at_ms
  session.expires_at = summary.expires_at_ms
  session.suspended_total, session.suspensions = summary.suspended_ms, summary.suspensions
  session.ordinals, session.published = summary.ordinals, summary.ordinals
  for _, entry in ipairs(summary.activity) do
    session.counts[entry.sender], session.last_seen[entry.sender] = entry.count, entry.last_seen_ms
    if not session.is_participant[entry.sender] then add_to(session, "others", entry.sender) end
  end
  for _, index in ipairs(summary.skips) do M.skip(session, index) end
  session.ids, session.has_summary, session.is_dropped = nil, true, summary.is_dropped
end

---The journal index of the record with this ordinal: records without an ordinal are skipped.
function M.index_of(session, ordinal)
  local index = ordinal
  for _, skip in ipairs(session.skips) do
    if skip > index then break end
    index = index + 1
  end
  return index
end

return M
