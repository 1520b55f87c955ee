-- Exports: everything about one run, as one JSON document or as lines of JSON. Events go from the database to the
-- client page by page; the next page is read when the client has taken the one before.

local crypto = require("host.crypto")
local task = require("host.task")

local json = require("macp.core.json")
local time = require("macp.core.time")
local artifacts = require("macp.plane.artifacts")
local event_id = require("macp.plane.event_id")
local history = require("macp.plane.history")
local normalize = require("macp.plane.normalize")
local run_facts = require("macp.plane.run_facts")

local event_pages = require("macp.store.event_pages")
local events_store = require("macp.store.events")
local sessions_store = require("macp.store.sessions")

local ALL = history.END

---@class macp.plane.Exports
local Exports = {}
Exports.__index = Exports

local M = {}

---@param deps { db: table, owner: table, reader: macp.plane.Reader, runs: macp.plane.Runs,
---  redactor: macp.plane.Redactor|false|nil }
function M.new(deps) return setmetatable(deps, Exports) end

local function iso(ms) return ms and time.iso(ms) or json.null end

local function session_json(run, row, redactor)
  if not row then return json.null end
  return {
    runId = run.id, runtimeKind = run.runtimeKind, runtimeSessionId = row.runtime_session_id,
    modeName = row.mode_name, modeVersion = row.mode_version or json.null,
    modeRevision = row.mode_revision or json.null, configurationVersion = row.configuration_version or json.null,
    policyVersion = row.policy_version or json.null,
    initiatorParticipantId = row.initiator_participant_id or json.null, sessionState = row.session_state,
    lastStreamCursor = run.lastEventSeq, runtimeCursor = row.runtime_cursor,
    streamConnectedAt = iso(row.stream_connected_at), streamDisconnectedAt = iso(row.stream_disconnected_at),
    startedAt = iso(row.started_at), expiresAt = iso(row.expires_at), lastSeenAt = iso(row.last_seen_at),
    createdAt = iso(row.created_at), updatedAt = iso(row.updated_at), capabilities = json.raw(row.capabilities),
    metadata = json.raw(redactor and redactor:json(row.metadata) or row.metadata),
  }
end

---What of a run is not a list of events. (yields)
---@return { run: table, session: any, projection: any, metrics: any, artifacts: table, to: integer }|nil
---@return table|nil err RUN_NOT_FOUND
function Exports:head(tenant, run_id)
  local run, err = self.runs:get(tenant, run_id)
  if run == nil then return nil, err end
  local session, session_err = sessions_store.find(self.db, tenant, run_id)
  if session == nil then return nil, session_err end
  local counters, counters_err = run_facts.counters(self, tenant, run_id)
  if counters == nil then return nil, counters_err end
  local list, list_err = artifacts.list(self, tenant, run_id)
  if list == nil then return nil, list_err end
  local projection, projection_err = self.reader:state(tenant, run_id)
  if projection == nil then return nil, projection_err end
  local tail, tail_err = events_store.tail(self.db, tenant, run_id)
  if tail == nil then return nil, tail_err end
  return {
    run = run, session = session_json(run, session, self.redactor), projection = json.raw(projection), artifacts = list,
    metrics = counters and run_facts.summary(run_id, counters) or json.null, to = tail.seq,
  }
end

local function envelope_json(env)
  return {
    macpVersion = env.macp_version, mode = env.mode, messageType = env.message_type, messageId = env.message_id,
    sessionId = env.session_id, sender = env.sender, timestampUnixMs = tonumber(env.timestamp_unix_ms) or 0,
    payloadBase64 = crypto.base64_encode(env.payload or ""),
  }
end

-- Kinds as readers know them: an envelope is one, whichever stream it came by.
local SHOWN_KINDS = { ["stream-signal"] = "stream-envelope" }

local function shown_kind(row) return SHOWN_KINDS[row.kind] or row.kind end

-- What was received, as the raw kinds of the event model show it; bytes in which something was redacted say so.
local function raw_payload(row, redactor)
  if row.payload then return json.raw(redactor and redactor:json(row.payload) or row.payload) end
  local env = row.kind ~= "undecodable" and history.decode_frame(row.frame)
  local payload = { kind = shown_kind(row), receivedAt = time.iso(row.ts) }
  if env then payload.envelope = envelope_json(env)
  else payload.frameBase64 = crypto.base64_encode(row.frame) end
  if redactor then redactor:value(payload) end
  return payload
end

local function raw_text(rows, run_id, as_lines, before, redactor)
  local out = {}
  for i, row in ipairs(rows) do
    out[i] = json.encode({
      type = as_lines and "raw_event" or nil, id = event_id.of(run_id, row.seq), runId = run_id, seq = row.seq,
      ts = time.iso(row.ts), kind = shown_kind(row), ordinal = row.ordinal or json.null,
      sourceName = normalize.RUNTIME_NAME, payload = raw_payload(row, redactor),
    })
  end
  return before .. table.concat(out, as_lines and "\n" or ",")
end

-- Pages of one kind of event until `most` were written; while one is written the next is read. Lines begin with their
-- line break: the one before them has none. read(from, rows, before) returns a text that begins with `before`, how
-- many events it holds and the last one's number. (yields)
local function write_pages(read, most, as_lines, write)
  local left, between = most, as_lines and "\n" or ","
  local next_page = left > 0 and task.spawn(read, 0, math.min(left, event_pages.FIRST_ROWS), as_lines and "\n" or "")
  while next_page do
    local text, count, last = next_page:join()
    if text == nil then return nil, count end
    if count == 0 then return true end
    left = left - count
    local rows = math.min(left, event_pages.rows_after(count, #text))
    next_page = left > 0 and task.spawn(read, last, rows, between)
    local ok, err = write(text)
    if not ok then
      if next_page then
        next_page:cancel()
        next_page:join()
      end
      return nil, err
    end
  end
  return true
end

-- (yields)
local function write_canonical(self, tenant, head, as_lines, most, write)
  return write_pages(function(from, rows, before)
    local page, err = event_pages.canonical(self.db, tenant, head.run.id, from, head.to, as_lines, before, rows)
    if not page then return nil, err end
    return page.text or "", page.count, page.seq
  end, most, as_lines, write)
end

-- (yields)
local function write_raw(self, tenant, head, as_lines, most, write)
  return write_pages(function(from, rows, before)
    local found, err = event_pages.raw(self.db, tenant, head.run.id, from, head.to, rows)
    if found == nil then return nil, err end
    return raw_text(found, head.run.id, as_lines, before, self.redactor), #found, #found > 0 and found[#found].seq
  end, most, as_lines, write)
end

---@class macp.plane.ExportOptions
---@field canonical boolean with canonical events
---@field raw boolean with raw events
---@field most integer|nil of each kind; nil: all

---Writes one JSON document. (yields)
---@param head table of Exports:head
---@param write fun(text: string): true|nil, table|nil may yield; an error ends the export
---@param opts macp.plane.ExportOptions
---@return true|nil
---@return table|nil err
function Exports:write_document(tenant, head, write, opts)
  local most = opts.most or ALL
  local text = json.encode({ run = head.run, session = head.session, projection = head.projection,
    metrics = head.metrics, artifacts = head.artifacts })
  local ok, err = write(text:sub(1, -2) .. ',"canonicalEvents":[')
  if not ok then return nil, err end
  ok, err = write_canonical(self, tenant, head, false, opts.canonical and most or 0, write)
  if not ok then return nil, err end
  ok, err = write('],"rawEvents":[')
  if not ok then return nil, err end
  ok, err = write_raw(self, tenant, head, false, opts.raw and most or 0, write)
  if not ok then return nil, err end
  return write('],"exportedAt":"' .. time.iso_now() .. '"}')
end

---Writes lines of JSON: a header, then events. (yields)
---@param head table of Exports:head
---@param write fun(text: string): true|nil, table|nil
---@param opts macp.plane.ExportOptions
---@return true|nil
---@return table|nil err
function Exports:write_lines(tenant, head, write, opts)
  local most = opts.most or ALL
  local ok, err = write(json.encode({ type = "header", run = head.run, session = head.session,
    projection = head.projection, metrics = head.metrics, artifacts = head.artifacts, exportedAt = time.iso_now() }))
  if not ok then return nil, err end
  ok, err = write_canonical(self, tenant, head, true, opts.canonical and most or 0, write)
  if not ok then return nil, err end
  ok, err = write_raw(self, tenant, head, true, opts.raw and most or 0, write)
  if not ok then return nil, err end
  return write("\n")
end

return M
