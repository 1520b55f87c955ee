-- Stored history, applied again: canonical events to a projection, received envelopes to a mode's state machine. Used
-- after a restart, for replayed states, and when stored projections are out of date.

local json = require("macp.core.json")
local messages = require("macp.protocol.messages")
local fold = require("macp.plane.projection.fold")
local mode_fold = require("macp.plane.mode_fold")
local run_metrics = require("macp.plane.run_metrics")
local session_start = require("macp.plane.session_start")

local events_store = require("macp.store.events")

local PAGE = 500
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
local function each(read, db, tenant, run_id, from, to, fn)
  while from < to do
    local rows, err = read(db, tenant, run_id, from, to, PAGE)
    if rows == nil then return nil, err end
    for _, row in ipairs(rows) do
      local ok, fn_err = fn(row)
      if ok == nil and fn_err then return nil, fn_err end
    end
    if #rows < PAGE then break end
    from = rows[#rows].seq
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
---@return true|nil
---@return table|nil err
function M.fold(db, tenant, run_id, from, to, state, metrics)
  return M.each_document(db, tenant, run_id, from, to, function(document, _, ms)
    local stored, err = json.decode(document)
    if stored == nil then return nil, err end
    local event = fold.from_stored(stored)
    fold.apply(state, event)
    if metrics then run_metrics.apply(metrics, event, ms, state) end
    return true
  end)
end

---Session time of an envelope, as the owner of the run computed it.
---@param last_t integer|nil of the envelope before
function M.session_time(timestamp_ms, received_ms, last_t, started_ms)
  local t = timestamp_ms > 0 and timestamp_ms or received_ms
  if t > received_ms then t = received_ms end
  return math.max(t, last_t or started_ms or 0)
end

-- Envelopes of the accepted history with seq in (from, to]: fn(env, row) until it returns false. (yields)
local function each_envelope(replica, from, to, fn)
  return each(events_store.raw_range, replica.db, replica.tenant, replica.run_id, from, to, function(row)
    if row.ordinal == nil or row.frame == nil or row.kind ~= "stream-envelope" then return true end
    local env, err = decode_frame(row.frame)
    if env == nil then return nil, err end
    return fn(env, row)
  end)
end

local STOP = { code = "STOP" }

-- The envelope that started the session, false when it is not stored (yet). (yields)
local function find_start(replica, to)
  local start_env, start_row
  local done, err = each_envelope(replica, 0, to, function(env, row)
    if env.message_type ~= "SessionStart" then return true end
    start_env, start_row = env, row
    return nil, STOP
  end)
  if done == nil and err ~= STOP then return nil, err end
  return start_env or false, start_row
end

---A mode's session, brought to where the history up to `to` leaves it.
---@param replica { rev: table, key: string, session: table, db: table, tenant: string, run_id: string }
---@param stored { seq: integer, mode_state: string|nil, last_t: integer|nil }|nil a state to start from
---@param to integer
---@return { started: boolean, last_t: integer|nil }|nil
---@return table|nil err
---(yields)
function M.rebuild_mode(replica, stored, to)
  local rev, key, session = replica.rev, replica.key, replica.session
  local env, row = find_start(replica, to)
  if env == nil then return nil, row end
  if not env then return { started = false } end
  local t = M.session_time(tonumber(env.timestamp_unix_ms) or 0, row.ts, nil, session.started_ms)
  local start = session_start.of(session, env, t)
  local from, last_t = row.seq, t
  local ok, err
  if stored and stored.mode_state then
    ok, err = rev:restore(key, start, stored.mode_state)
    from, last_t = stored.seq, stored.last_t or t
  else
    ok, err = rev:start(key, start)
  end
  if ok == nil then return nil, err end
  local types, folded = session_start.message_types(rev), mode_fold.stored(replica, from, to)
  local done, apply_err = each_envelope(replica, from, to, function(later, later_row)
    local caught_up, fold_err = folded:up_to(later_row.seq)
    if not caught_up then return nil, fold_err end
    last_t = M.session_time(tonumber(later.timestamp_unix_ms) or 0, later_row.ts, last_t, session.started_ms)
    if later.message_type == "Commitment" or types[later.message_type] then
      rev:apply(key, later.message_type, later.sender, later.payload, last_t,
        rev:is_reserved_id(later.message_id) and 1 or 0)
    end
    return true
  end)
  if done then done, apply_err = folded:up_to(to + 1) end
  if not done then return nil, apply_err end
  return { started = true, last_t = last_t }
end

return M
