-- Routes of a run's events: pages of the past, and the stream of what comes.

local errors = require("macp.core.errors")
local json = require("macp.core.json")
local time = require("macp.core.time")
local download = require("macp.http.download")
local sse = require("macp.http.sse")
local history = require("macp.plane.history")
local event_filter = require("macp.plane.event_filter")
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

local JSON = "application/json; charset=utf-8"
local PIECE_BYTES = 1048576 -- of documents that are in memory for one reply

local M = {}

local function documents(rows)
  local out = {}
  for i, row in ipairs(rows) do out[i] = row.document end
  return table.concat(out, ",")
end

-- A list of events: as one reply when it is short, else piece by piece, as fast as the client takes them. (yields)
local function send_list(ctx, db, run_id, query)
  local from, left = query.afterSeq, query.limit
  local write, finish, before = nil, nil, "["
  while true do
    local rows = check(events_store.piece(db, ctx.tenant, run_id, from, history.END, nil, left, PIECE_BYTES))
    local text = documents(rows)
    left = left - #rows
    local is_last = left == 0 or #rows == 0 or #text < PIECE_BYTES
    if is_last and write == nil then return 200, "[" .. text .. "]" end
    if write == nil then write, finish = download.open(ctx, JSON) end
    local ok, err = write((#rows > 0 and before or "") .. text .. (is_last and "]" or ""))
    if not ok and download.is_gone(err) then return 200 end
    if not ok then error(err, 0) end
    if is_last then
      finish()
      return 200
    end
    from, before = rows[#rows].seq, ","
  end
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
    if not (query.afterTs or query.beforeTs or types) then
      return send_list(ctx, db, run_id, query)
    end
    local page = check(events_store.page(db, ctx.tenant, run_id, {
      after_seq = query.afterSeq, limit = query.limit, types = types,
      after_ms = query.afterTs and time.parse_iso(query.afterTs),
      before_ms = query.beforeTs and time.parse_iso(query.beforeTs),
    }))
    local rows = page.rows
    return 200, {
      data = json.raw("[" .. documents(rows) .. "]"), total = page.total, limit = query.limit,
      nextCursor = #rows > 0 and rows[#rows].seq or nil,
    }
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
