-- One subscriber of a run's stream: a snapshot, the backlog, then the live tail. Its task sleeps while it is on the
-- tail; the hub offers frames itself. When it falls behind it reads rows until it meets the tail again.

local errors = require("macp.core.errors")
local history = require("macp.plane.history")
local hub = require("macp.plane.hub")

local events_store = require("macp.store.events")
local runs_store = require("macp.store.runs")

local PAGE = 500
local PAGE_BYTES = 65536 -- it is kept while the client is slow
local UNTIL_KICKED_MS = 3600000
local BACKFILL = 500 -- events: what a stream that resumes nowhere (afterSeq=0) begins with, of any history

local M = {}

-- Rows as one piece of the stream; "" when the subscriber wants none of them.
local function frames_of(rows, filter)
  local frames = {}
  for _, row in ipairs(rows) do
    if filter == nil or filter.types[row.type] then
      frames[#frames + 1] = hub.frame("canonical_event", row.seq, row.document)
    end
  end
  return table.concat(frames)
end

-- Sends what is stored after the subscriber's last number, until it meets the live tail. (yields)
local function catch_up(deps, subscriber, stream, tenant, run_id)
  local topic = subscriber.topic
  while true do
    local drained, drain_err = stream:wait_drained() -- a slow client is kept one page, not as many as fit
    if not drained then return nil, drain_err end
    local published_seq = topic.last_event_seq
    local rows, err = events_store.piece(deps.db, tenant, run_id, subscriber.sent_seq, history.END, nil, PAGE,
      PAGE_BYTES)
    if rows == nil then return nil, err end
    if #rows > 0 then
      local text = frames_of(rows, subscriber.filter)
      if text ~= "" then
        local ok, write_err = stream:send(text)
        if not ok then return nil, write_err end
      end
      subscriber.sent_seq = rows[#rows].seq
    elseif topic.run == nil and not topic.followed then
      local last, last_err = events_store.last_seq(deps.db, tenant, run_id)
      if last == nil then return nil, last_err end
      deps.hub:follow(topic, last.seq)
    elseif subscriber.sent_seq < published_seq then
      subscriber.sent_seq = published_seq -- what was published is stored, unless it was deleted since
    end
    if (topic.run or topic.followed) and subscriber.sent_seq >= topic.last_event_seq then
      subscriber.live = true -- nothing was published between the comparison and here
      return true
    end
  end
end

-- The run's projection, now. (yields)
local function send_snapshot(deps, subscriber, stream, tenant, run_id, with_id)
  subscriber.snapshot_owed = false
  local text, seq = deps.reader:state(tenant, run_id)
  if text == nil then return nil, seq end
  local ok, err = stream:send(hub.frame("snapshot", with_id and seq or nil, text))
  if not ok then return nil, err end
  subscriber.snapshot_seq = seq
  return true, seq
end

-- The end of the run was told: the final state, then the end of the stream. (yields)
local function conclude(subscriber, stream, opts)
  local ended = subscriber.topic.ended
  if opts.includeSnapshot and ended.seq ~= subscriber.snapshot_seq then
    subscriber.snapshot_seq = ended.seq
    local ok, err = stream:send(hub.frame("snapshot", ended.seq, ended.text))
    if not ok then return nil, err end
  end
  return opts.follow and "follow" or "done"
end

-- A run that this process does not own: has it ended? Asked once the subscriber is on the tail, so that an end that
-- comes later is seen there. (yields)
local function look_at_row(deps, subscriber, stream, tenant, run_id)
  local topic = subscriber.topic
  if topic.run or topic.ended then return true end
  local row, err = runs_store.find(deps.db, tenant, run_id)
  if not row then return nil, err or errors.new("RUN_NOT_FOUND") end
  if not row.ended_at then return true end
  local text, seq = deps.reader:state(tenant, run_id)
  if text == nil then return nil, seq end
  local caught, catch_err = catch_up(deps, subscriber, stream, tenant, run_id)
  if not caught then return nil, catch_err end
  if topic.run == nil then topic.ended = topic.ended or { text = text, seq = seq } end
  return true
end

-- One round of a subscriber: brings it to the tail. How long it may sleep, or "done". (yields)
local function advance(deps, subscriber, stream, tenant, run_id, opts)
  if not subscriber.live then
    local ok, err = catch_up(deps, subscriber, stream, tenant, run_id)
    if ok then ok, err = look_at_row(deps, subscriber, stream, tenant, run_id) end
    if not ok then return nil, err end
  end
  if subscriber.topic.ended then
    local verdict, err = conclude(subscriber, stream, opts)
    if verdict == nil then return nil, err end
    return verdict == "done" and "done" or UNTIL_KICKED_MS
  end
  if subscriber.snapshot_owed and opts.includeSnapshot then
    local had = subscriber.sent_seq
    local ok, seq = send_snapshot(deps, subscriber, stream, tenant, run_id, false)
    if not ok then return nil, seq end
    if had < seq then subscriber.snapshot_seq = nil end -- events follow, and the last frame must be a snapshot
  end
  return UNTIL_KICKED_MS
end

-- The number after which the stream begins. (yields)
local function begin_after(deps, subscriber, stream, tenant, run_id, opts)
  local start = opts.afterSeq
  if opts.includeSnapshot then
    local ok, seq = send_snapshot(deps, subscriber, stream, tenant, run_id, start == nil)
    if not ok then return nil, seq end
    if start == nil then return seq end
  elseif start == nil then
    local tail, err = events_store.tail(deps.db, tenant, run_id)
    return tail and tail.seq, err
  end
  if start > 0 then return start end
  local before, err = events_store.before_newest(deps.db, tenant, run_id, BACKFILL)
  return before and before.seq, err
end

---Serves one subscriber until it leaves, its run has ended, or the program ends. (yields)
---@param deps { db: table, hub: macp.plane.Hub, reader: table, owner: table }
---@param stream macp.EventStream
---@param opts { afterSeq: integer|nil, includeSnapshot: boolean, follow: boolean,
---  filter: macp.plane.EventFilter|nil }
---@return true|nil
---@return table|nil err
function M.serve(deps, stream, tenant, run_id, opts)
  local subscriber = deps.hub:subscribe(run_id, deps.owner:get(tenant, run_id), stream, opts.afterSeq or 0, tenant,
    opts.filter)
  subscriber.wants_snapshot = opts.includeSnapshot
  stream.on_end = function()
    subscriber.kicked = true
    subscriber.wake:signal()
  end
  local function run()
    local begin, begin_err = begin_after(deps, subscriber, stream, tenant, run_id, opts)
    if begin == nil then return nil, begin_err end
    subscriber.sent_seq = begin
    while not deps.hub.closing and not stream:closed() do
      subscriber.kicked = false
      local wait_ms, err = advance(deps, subscriber, stream, tenant, run_id, opts)
      if wait_ms == "done" then return true end
      if wait_ms == nil then return nil, err end
      if not subscriber.kicked then
        local _, wait_err = subscriber.wake:wait(wait_ms)
        if wait_err and wait_err.code == "CANCELLED" then return nil, wait_err end
      end
    end
    return true
  end
  local ok, err = run()
  deps.hub:unsubscribe(subscriber)
  return ok, err
end

return M
