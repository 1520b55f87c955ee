-- One subscriber of a run's stream: a snapshot, the backlog, then the live tail. Its task sleeps while it is on the
-- tail; the hub offers frames itself. When it falls behind it reads rows until it meets the tail again.

local errors = require("macp.core.errors")
local hub = require("macp.plane.hub")

local events_store = require("macp.store.events")
local runs_store = require("macp.store.runs")

local PAGE = 500
local FOREIGN_POLL_MS = 1000

local M = {}

-- Sends what is stored after the subscriber's last number, until it meets the live tail. (yields)
local function catch_up(deps, subscriber, stream, tenant, run_id)
  while true do
    local rows, err = events_store.after(deps.db, tenant, run_id, subscriber.sent_seq, PAGE)
    if rows == nil then return nil, err end
    if #rows > 0 then
      local frames = {}
      for i, row in ipairs(rows) do frames[i] = hub.frame("canonical_event", row.seq, row.document) end
      local ok, write_err = stream:send(table.concat(frames))
      if not ok then return nil, write_err end
      subscriber.sent_seq = rows[#rows].seq
    end
    local topic = subscriber.topic
    if topic.run and subscriber.sent_seq >= topic.last_event_seq then
      subscriber.live = true -- nothing was published between the comparison and here
      return true
    end
    -- While the last page was on its way to a slow client more may have been stored: only an empty one is the end.
    if topic.run == nil and #rows == 0 then return true end
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

-- A run of another process, or one that has ended: what its row says. (yields)
local function look_at_row(deps, subscriber, tenant, run_id)
  local row, err = runs_store.find(deps.db, tenant, run_id)
  if not row then return nil, err or errors.new("RUN_NOT_FOUND") end
  if row.ended_at and not subscriber.topic.run then
    local text, seq = deps.reader:state(tenant, run_id)
    if text == nil then return nil, seq end
    return { text = text, seq = seq }
  end
  return false
end

-- Not on the tail of a run that this process owns: "done" or how long to wait. (yields)
local function poll(deps, subscriber, stream, tenant, run_id, opts)
  local topic = subscriber.topic
  if topic.run then return 0 end
  if topic.ended == nil then
    local ended, err = look_at_row(deps, subscriber, tenant, run_id)
    if ended == nil then return nil, err end
    if not ended then return FOREIGN_POLL_MS end
    local caught, catch_err = catch_up(deps, subscriber, stream, tenant, run_id)
    if not caught then return nil, catch_err end
    if topic.run then return 0 end
    topic.ended = topic.ended or ended
  end
  local verdict, err = conclude(subscriber, stream, opts)
  if verdict == nil then return nil, err end
  if verdict == "done" then return "done" end
  return 3600000
end

-- One round of a subscriber: brings it to the tail and tells how long it may sleep. (yields)
local function advance(deps, subscriber, stream, tenant, run_id, opts)
  if not subscriber.live then
    local caught, err = catch_up(deps, subscriber, stream, tenant, run_id)
    if not caught then return nil, err end
  end
  if subscriber.topic.run == nil then
    subscriber.live = false
    return poll(deps, subscriber, stream, tenant, run_id, opts)
  end
  if subscriber.snapshot_owed and opts.includeSnapshot then
    local had = subscriber.sent_seq
    local ok, seq = send_snapshot(deps, subscriber, stream, tenant, run_id, false)
    if not ok then return nil, seq end
    if had < seq then subscriber.snapshot_seq = nil end -- events follow, and the last frame must be a snapshot
  end
  return nil, nil, true
end

---Serves one subscriber until it leaves, its run has ended, or the program ends. (yields)
---@param deps { db: table, hub: macp.plane.Hub, reader: table, owner: table }
---@param stream macp.EventStream
---@param opts { afterSeq: integer|nil, includeSnapshot: boolean, follow: boolean }
---@return true|nil
---@return table|nil err
function M.serve(deps, stream, tenant, run_id, opts)
  local start = opts.afterSeq
  local subscriber = deps.hub:subscribe(run_id, deps.owner:get(tenant, run_id), stream, start or 0)
  subscriber.wants_snapshot = opts.includeSnapshot
  local function run()
    if opts.includeSnapshot then
      local ok, seq = send_snapshot(deps, subscriber, stream, tenant, run_id, start == nil)
      if not ok then return nil, seq end
      if start == nil then subscriber.sent_seq = seq end
    elseif start == nil then
      local tail, err = events_store.tail(deps.db, tenant, run_id)
      if tail == nil then return nil, err end
      subscriber.sent_seq = tail.seq
    end
    while not deps.hub.closing and not stream:closed() do
      subscriber.kicked = false
      local wait_ms, err, settled = advance(deps, subscriber, stream, tenant, run_id, opts)
      if wait_ms == "done" then return true end
      if wait_ms == nil and not settled then return nil, err end
      if wait_ms ~= 0 and not subscriber.kicked then
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
