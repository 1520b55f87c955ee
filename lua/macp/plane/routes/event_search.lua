-- Route of events across runs.

local errors = require("macp.core.errors")
local ids = require("macp.core.ids")
local json = require("macp.core.json")
local time = require("macp.core.time")
local event_reply = require("macp.plane.event_reply")
local page_token = require("macp.plane.page_token")
local schemas = require("macp.plane.routes.schemas")
local text_lists = require("macp.plane.text_lists")

local event_search = require("macp.store.event_search")

local check = errors.check

local QUERY = {
  type = "object",
  properties = {
    runId = { type = "string", format = "uuid" }, scenarioRef = { type = "string" }, type = { type = "string" },
    afterSeq = { type = "integer", minimum = 0, default = 0 },
    afterTs = { type = "string", format = "date-time" }, beforeTs = { type = "string", format = "date-time" },
    limit = { type = "integer", minimum = 1, maximum = 5000, default = 500 },
    pageToken = { type = "string", maxLength = 256 }, exactTotal = { type = "boolean", default = false },
  },
}

local M = {}

local function position_of(token)
  local ts_us, run_id, seq = page_token.parts(token, "(%d+):([%x%-]+):(%d+)")
  if ts_us == nil or #ts_us > 17 or #seq > 15 or not ids.is_uuid(run_id) then
    error(errors.new("VALIDATION_ERROR", nil, "pageToken must be a nextPageToken of an earlier page"), 0)
  end
  return { ts_us = ts_us, run_id = run_id, seq = tonumber(seq) }
end

---@param plane { db: table }
function M.routes(plane)
  local function list(ctx)
    local query = ctx.query
    local page = check(event_search.page(plane.db, ctx.tenant, {
      run_id = query.runId, after_seq = query.afterSeq, types = text_lists.of(query.type),
      scenario_ref = query.scenarioRef, limit = query.limit, exact = query.exactTotal,
      bytes = event_reply.PIECE_BYTES,
      after_ms = query.afterTs and time.parse_iso(query.afterTs),
      before_ms = query.beforeTs and time.parse_iso(query.beforeTs),
      position = query.pageToken and position_of(query.pageToken),
    }))
    local rows = page.rows
    local last = #rows > query.limit and rows[query.limit] or nil
    local rest = json.encode({
      total = page.total, limit = query.limit, nextCursor = last and query.runId and last.seq or nil,
      nextPageToken = last and page_token.make(last.ts_us, last.run_id, string.format("%d", last.seq)) or nil,
    })
    return event_reply.send(ctx, '{"data":[', "]," .. rest:sub(2),
      event_reply.pieces(plane.db, ctx.tenant, rows, math.min(#rows, query.limit)))
  end

  return {
    { method = "GET", path = "/events", scope = "runs:read", query = QUERY, returns = { [200] = schemas.EventPage },
      tag = "events", summary = "Events of all runs",
      description = "In the order of their time. nextPageToken continues where a page ended (as pageToken, with the "
        .. "same filters); nextCursor does so within one run (as afterSeq). total counts up to 10 000, exactTotal=true "
        .. "counts all.", handler = list },
  }
end

return M
