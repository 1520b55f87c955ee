-- Stored history, applied again: canonical events to a projection, received envelopes to a mode's state machine. Used
-- after a restart, for replayed states, and when stored projections are out of date.

local json = require("macp.core.json")
local messages = require("macp.protocol.messages")
local event_cursor = require("macp.plane.event_cursor")
local fold = require("macp.plane.projection.fold")
local mode_fold = require("macp.plane.mode_fold")
local run_metrics = require("macp.plane.run_metrics")
local session_clock = require("macp.plane.session_clock")
local session_start = require("macp.plane.session_start")

local events_store = require("macp.store.events")

local PAGE, FIRST_PAGE = 500, 16 -- rows at once; what is looked for is often among the first
local END = 9007199254740991

local M = { END = END }

local codec
local function decode_frame(frame)
  codec = codec or messages.codec("macp.v1.StreamSessionResponse", { enums = "number" })
  local decoded, err = codec:decode(frame)
  if decoded == nil then return nil, err end
  return decoded.envelope
end

M.decode_frame = decode_frame

-- fn(row) for every row of a paged range. (yields)
local function each(read, db, tenant, run_id, from, to, fn, first_page)
  local page = first_page or PAGE
  while from < to do
    local rows, err = read(db, tenant, run_id, from, to, page)
    if rows == nil then return nil, err end
    for _, row in ipairs(rows) do
      local ok, fn_err = fn(row)
      if ok == nil and fn_err then return nil, fn_err end
    end
    if #rows < page then break end
    from, page = rows[#rows].seq, PAGE
  end
  return true
end

---fn(event document text, seq, ts ms) for events with seq in (from, to]. (yields)
function M.each_document(db, tenant, run_id, from, to, fn)
  return each(events_store.range, db, tenant, run_id, from, to, function(row)
    return fn(row.document, row.seq, row.ts)
  end)
end

---Folds the events with seq in (from, to] into a projection and, if given, counters. (yields)
---@param on_event fun(seq: integer)|nil called after each event; must not yield
---@return true|nil
---@return table|nil err
function M.fold(db, tenant, run_id, from, to, state, metrics, on_event)
  return M.each_document(db, tenant, run_id, from, to, function(document, seq, ms)
    local stored, err = json.decode(document)
    if stored == nil then return nil, err end
    local event = fold.from_stored(stored)
    fold.apply(state, event)
    if metrics then run_metrics.apply(metrics, event, ms, state) end
    if on_event then on_event(seq) end
    return true
  end)
end

local PAUSES = { "run.suspended", "run.resumed", "session.state.changed" }

-- Lets a clock follow the stored suspensions of a run.
local function pauses_of(replica, clock, range)
  return event_cursor.new(replica, PAUSES, range, function(row)
    local stored = json.decode(row.document)
    if stored then fold.follow_clock(clock, fold.from_stored(stored)) end
  end)
end

-- Envelopes of the accepted history with seq in (from, to]: fn(env, row) until it returns false. (yields)
local function each_envelope(replica, from, to, fn, first_page)
  return each(events_store.raw_range, replica.db, replica.tenant, replica.run_id, from, to, function(row)
    if row.ordinal == nil or row.frame == nil or row.kind ~= "stream-envelope" then return true end
    local env, err = decode_frame(row.frame)
    if env == nil then return nil, err end
    return fn(env, row)
  end, first_page)
end

local STOP = { code = "STOP" }

-- The envelope that started the session, false when it is not stored (yet). (yields)
local function find_start(replica, to)
  local start_env, start_row
  local done, err = each_envelope(replica, 0, to, function(env, row)
    if env.message_type ~= "SessionStart" then return true end
    start_env, start_row = env, row
    return nil, STOP
  end, FIRST_PAGE)
  if done == nil and err ~= STOP then return nil, err end
  return start_env or false, start_row
end

-- Starts the mode, from a stored state if there is one that it takes.
local function start_mode(replica, stored, start)
  if stored and stored.mode_state then return replica.rev:restore(replica.key, start, stored.mode_state) end
  return replica.rev:start(replica.key, start)
end

-- Applies what a session accepted in a range, and the events that the mode folds, in their order. (yields)
local function apply_range(replica, clock, pauses, from, to)
  local rev, key = replica.rev, replica.key
  local folded = mode_fold.stored(replica, { from = from, to = to })
  local types = session_start.message_types(rev)
  local done, err = each_envelope(replica, from, to, function(env, row)
    local ok, fold_err = folded:up_to(row.seq)
    if ok then ok, fold_err = pauses:up_to(row.seq) end
    if not ok then return nil, fold_err end
    local t = session_clock.tell(clock, tonumber(env.timestamp_unix_ms) or 0, row.ts)
    if env.message_type == "Commitment" or types[env.message_type] then
      rev:apply(key, env.message_type, env.sender, env.payload, t, rev:is_reserved_id(env.message_id) and 1 or 0)
    end
    if replica.on_step then replica.on_step(row.seq, clock) end
    return true
  end)
  if done then done, err = folded:up_to(to + 1) end
  if done then done, err = pauses:up_to(to + 1) end
  return done, err
end

---A mode's session, brought to where the history up to `to` leaves it.
---@param replica { rev: table, key: string, session: table, db: table, tenant: string, run_id: string,
---  start: table|nil, on_step: fun(seq: integer, clock: macp.plane.SessionClock)|nil } start: what an earlier call
--- returned; on_step is called after each envelope and may yield
---@param stored { seq: integer, mode_state: string|nil, clock: table|nil }|nil a state to start from
---@param to integer
---@return { started: boolean, clock: macp.plane.SessionClock|nil, start: table|nil }|nil
---@return table|nil err
---(yields)
function M.rebuild_mode(replica, stored, to)
  local start, continues = replica.start, stored ~= nil and stored.mode_state ~= nil
  local env, row
  if start == nil or not continues then
    env, row = find_start(replica, to)
    if env == nil then return nil, row end
    if not env then return { started = false } end
    start = session_start.of(replica.session, env)
  end
  local ok, err = start_mode(replica, stored, start)
  if ok == nil then return nil, err end
  local clock, pauses, from
  if continues then
    clock, from = session_clock.copy(stored.clock), stored.seq
    pauses = pauses_of(replica, clock, { from = from, to = to })
  else
    clock, from = session_clock.new(), row.seq
    pauses = pauses_of(replica, clock, { from = 0, to = to })
    ok, err = pauses:up_to(from)
    if not ok then return nil, err end
    clock.started_ms = replica.session.started_ms
    session_clock.tell(clock, tonumber(env.timestamp_unix_ms) or 0, row.ts)
  end
  ok, err = apply_range(replica, clock, pauses, from, to)
  if not ok then return nil, err end
  return { started = true, clock = clock, start = start }
end

return M
