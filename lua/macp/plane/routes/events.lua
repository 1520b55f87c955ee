-- Routes of a run's events: pages of the past, and the stream of what comes.

local errors = require("macp.core.errors")
local json = require("macp.core.json")
local time = require("macp.core.time")
local sse = require("macp.http.sse")
local history = require("macp.plane.history")
local event_filter = require("macp.plane.event_filter")
local event_reply = require("macp.plane.event_reply")
local schemas = require("macp.plane.routes.schemas")
local subscriber = require("macp.plane.subscriber")
local text_lists = require("macp.plane.text_lists")

local events_store = require("macp.store.events")

local check = errors.check

local EVENTS_QUERY = {
  type = "object",
  properties = {
    afterSeq = { type = "integer", minimum = 0, default = 0 },
    limit = { type = "integer", minimum = 1, maximum = 5000, default = 200 },
    afterTs = { type = "string", format = "date-time" }, beforeTs = { type = "string", format = "date-time" },
    type = { type = "string" },
  },
}

local STREAM_QUERY = {
  type = "object",
  properties = {
    afterSeq = schemas.SEQ, includeSnapshot = { type = "boolean", default = true },
    heartbeatMs = { type = "integer", minimum = 1000 }, follow = { type = "boolean" },
    type = schemas.EVENT_TYPES,
  },
}

local M = {}

-- A list of events without filters. (yields)
local function send_list(ctx, db, run_id, query)
  local from, left = query.afterSeq, query.limit
  return event_reply.send(ctx, "[", "]", function()
    local rows, err = events_store.piece(db, ctx.tenant, run_id, from, history.END, nil, left, event_reply.PIECE_BYTES)
    if rows == nil then return nil, err end
    local documents, bytes = {}, 0
    for i, row in ipairs(rows) do documents[i], bytes = row.document, bytes + #row.document end
    left, from = left - #rows, #rows > 0 and rows[#rows].seq or from
    return table.concat(documents, ","), left == 0 or bytes < event_reply.PIECE_BYTES
  end)
end

-- A page of events with filters. (yields)
local function send_page(ctx, db, run_id, query, types)
  local page = check(events_store.page(db, ctx.tenant, run_id, {
    after_seq = query.afterSeq, limit = query.limit, types = types, bytes = event_reply.PIECE_BYTES,
    after_ms = query.afterTs and time.parse_iso(query.afterTs),
    before_ms = query.beforeTs and time.parse_iso(query.beforeTs),
  }))
  local rows = page.rows
  for _, row in ipairs(rows) do row.run_id = run_id end
  local rest = json.encode({ total = page.total, limit = query.limit,
    nextCursor = #rows > 0 and rows[#rows].seq or nil })
  return event_reply.send(ctx, '{"data":[', "]," .. rest:sub(2), event_reply.pieces(db, ctx.tenant, rows, #rows))
end

-- Where a reconnecting client left off. What is no number counts as 0.
local function last_event_id(headers)
  local text = headers["last-event-id"]
  if text == nil or text == "" then return nil end
  return text:find("^%d+$") and #text < 16 and tonumber(text) or 0
end

-- Whether a stream stays open behind the end of its run. A browser's EventSource comes back, at once and for ever,
-- whenever a stream ends; it says what it is by asking for nothing but an event stream.
local function follows(wanted, headers)
  if wanted ~= nil then return wanted end
  return (headers.accept or ""):find("^%s*text/event%-stream") ~= nil
end

---@param plane { runs: table, db: table, hub: table, reader: table, owner: table, heartbeat_ms: integer }
function M.routes(plane)
  local runs, db = plane.runs, plane.db

  local function list(ctx)
    local query, run_id = ctx.query, ctx.params.id
    check(runs:require(ctx.tenant, run_id))
    local types = text_lists.of(query.type)
    if query.afterTs or query.beforeTs or types then return send_page(ctx, db, run_id, query, types) end
    return send_list(ctx, db, run_id, query)
  end

  local function stream(ctx)
    local query, run_id = ctx.query, ctx.params.id
    check(plane.arrivals:hold(ctx.tenant, run_id, function() return runs:require(ctx.tenant, run_id) end))
    local events = sse.open(ctx, { heartbeat_ms = query.heartbeatMs or plane.heartbeat_ms, subject = run_id })
    if events == nil then return 200 end
    local ok, err = subscriber.serve(plane, events, ctx.tenant, run_id, {
      afterSeq = query.afterSeq or last_event_id(ctx.headers), includeSnapshot = query.includeSnapshot,
      follow = follows(query.follow, ctx.headers), filter = event_filter.of(query.type),
    })
    if not ok and errors.is_typed(err) then
      events:send(sse.frame("error", nil, tostring(err.message)))
    end
    events:close()
    return 200
  end

  return {
    { method = "GET", path = "/runs/:id/events", scope = "runs:read", query = EVENTS_QUERY,
      returns = { [200] = schemas.EventsOfRun }, tag = "events", summary = "Events of a run",
      description = "Without filters a list; with afterTs, beforeTs or type an object with data, total and nextCursor.",
      handler = list },
    { method = "GET", path = "/runs/:id/stream", scope = "runs:read", query = STREAM_QUERY, raw = true,
      returns = { [200] = schemas.EventStream }, tag = "events", summary = "Live events of a run",
      description = "Server-sent events: snapshot, canonical_event, heartbeat. afterSeq or Last-Event-ID resume "
        .. "without loss, afterSeq=0 begins with the newest 500 events; the stream ends after the run's last event "
        .. "unless follow=true, which is the default for `Accept: text/event-stream` (a browser's EventSource). type "
        .. "leaves out other events. The oldest stream of a run or a caller ends when too many are open.",
      handler = stream },
  }
end

return M
