-- Stored history, applied again: canonical events to a projection, received envelopes to a mode's state machine. Used
-- after a restart, for replayed states, and when stored projections are out of date.

local task = require("host.task")

local json = require("macp.core.json")
local messages = require("macp.protocol.messages")
local fold = require("macp.plane.projection.fold")
local mode_fold = require("macp.plane.mode_fold")
local run_metrics = require("macp.plane.run_metrics")
local session_clock = require("macp.plane.session_clock")
local session_start = require("macp.plane.session_start")

local events_store = require("macp.store.events")

local PAGE, FIRST_PAGE = 500, 16 -- rows at once; what is looked for is often among the first
local PAGE_BYTES = 1048576 -- of a page, and one row more; two pages are in memory at a time
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

-- fn(row) for the rows of a page until it fails.
local function visit(rows, fn)
  for _, row in ipairs(rows) do
    local ok, err = fn(row)
    if ok == nil and err then return nil, err end
  end
  return true
end

local function bytes_of(rows)
  local bytes = 0
  for _, row in ipairs(rows) do bytes = bytes + #(row.frame or row.document) end
  return bytes
end

-- fn(row) for every row of a paged range; while a page is looked at the next one is read.
-- read(from, to, rows at most, bytes at most). (yields)
local function each(read, from, to, fn, first_page)
  if from >= to then return true end
  local limit = first_page or PAGE
  local rows, err = read(from, to, limit, PAGE_BYTES)
  while rows do
    local count = #rows
    local last = count > 0 and rows[count].seq or to
    if last >= to or (count < limit and bytes_of(rows) < PAGE_BYTES) then return visit(rows, fn) end
    local ahead = limit == PAGE and task.spawn(read, last, to, PAGE, PAGE_BYTES)
    local ok, fn_err = visit(rows, fn)
    if not ok then
      if ahead then ahead:cancel() end
      return nil, fn_err
    end
    if ahead then rows, err = ahead:join() else rows, err = read(last, to, PAGE, PAGE_BYTES) end
    limit = PAGE
  end
  return nil, err
end

---fn(event document text, seq, ts ms) for events with seq in (from, to]. (yields)
function M.each_document(db, tenant, run_id, from, to, fn)
  return each(function(after, last, rows, bytes)
    return events_store.piece(db, tenant, run_id, after, last, nil, rows, bytes)
  end, from, to, function(row) return fn(row.document, row.seq, row.ts) end)
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
local IS_PAUSE = {}
for _, name in ipairs(PAUSES) do IS_PAUSE[name] = true end

-- Lets a clock follow a stored suspension or its end.
local function follow_pause(clock, document)
  local stored = json.decode(document)
  if stored then fold.follow_clock(clock, fold.from_stored(stored)) end
end

-- The accepted history with seq in (from, to]: fn(env, row) for envelopes, fn(nil, row) for events of some types, until
-- it returns false. (yields)
local function each_replayed(replica, types, from, to, fn, first_page)
  local function read(after, last, rows, bytes)
    return events_store.replayed(replica.db, replica.tenant, replica.run_id, after, last, types, rows, bytes)
  end
  return each(read, from, to, function(row)
    if row.frame == nil then return fn(nil, row) end
    local env, err = decode_frame(row.frame)
    if env == nil then return nil, err end
    return fn(env, row)
  end, first_page)
end

local STOP = { code = "STOP" }

-- The envelope that started the session, false when it is not stored (yet). (yields)
local function find_start(replica, to)
  local start_env, start_row
  local done, err = each_replayed(replica, {}, 0, to, function(env, row)
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

-- Event types that are read beside the envelopes: pauses, and what the mode folds.
local function types_beside(rev)
  local list, folded = {}, mode_fold.types(rev) or {}
  for name in pairs(folded) do list[#list + 1] = name end
  for _, name in ipairs(PAUSES) do
    if not folded[name] then list[#list + 1] = name end
  end
  table.sort(list)
  return list
end

-- Applies what a session accepted in a range, and the events between it, in their order. (yields)
local function apply_range(replica, clock, from, to)
  local rev, key = replica.rev, replica.key
  local types = session_start.message_types(rev)
  return each_replayed(replica, types_beside(rev), from, to, function(env, row)
    if env == nil then
      mode_fold.apply(rev, key, row.type, row.document)
      if IS_PAUSE[row.type] then follow_pause(clock, row.document) end
      return true
    end
    local t = session_clock.tell(clock, tonumber(env.timestamp_unix_ms) or 0, row.ts)
    if env.message_type == "Commitment" or types[env.message_type] then
      rev:apply(key, env.message_type, env.sender, env.payload, t, rev:is_reserved_id(env.message_id) and 1 or 0)
    end
    return true
  end)
end

-- The clock of a session that an envelope starts, after the pauses before it. (yields)
local function clock_at_start(replica, env, row)
  local clock = session_clock.new()
  local done, err = each(function(from, to, rows, bytes)
    return events_store.piece(replica.db, replica.tenant, replica.run_id, from, to, PAUSES, rows, bytes)
  end, 0, row.seq, function(event)
    follow_pause(clock, event.document)
    return true
  end)
  if not done then return nil, err end
  clock.started_ms = replica.session.started_ms
  session_clock.tell(clock, tonumber(env.timestamp_unix_ms) or 0, row.ts)
  return clock
end

---A mode's session, brought to where the history up to `to` leaves it.
---@param replica { rev: table, key: string, session: table, db: table, tenant: string, run_id: string,
---  start: table|nil } start: what an earlier call returned
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
  local clock, from
  if continues then clock, from = session_clock.copy(stored.clock), stored.seq
  else
    clock, err = clock_at_start(replica, env, row)
    if clock == nil then return nil, err end
    from = row.seq
  end
  ok, err = apply_range(replica, clock, from, to)
  if not ok then return nil, err end
  return { started = true, clock = clock, start = start }
end

return M
