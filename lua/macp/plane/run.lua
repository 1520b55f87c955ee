-- A run that this process owns: its place in the history, its projection and counters in memory, and the one way to
-- add an event to it. Numbering, JSON text, fold and row happen together and never yield, so whoever calls
-- (observer, signals, a request) events keep one order.

local fold = require("macp.plane.projection.fold")
local projection = require("macp.plane.projection.state")
local event_id = require("macp.plane.event_id")
local mode_fold = require("macp.plane.mode_fold")
local run_metrics = require("macp.plane.run_metrics")
local run_trace = require("macp.plane.run_trace")
local session_clock = require("macp.plane.session_clock")
local text = require("macp.plane.text")

local events_store = require("macp.store.events")

local quote, quote_name = text.quote, text.quote_name
local apply, count = fold.apply, run_metrics.apply
local format = string.format

local TERMINAL = { completed = true, failed = true, cancelled = true }
local DEDUPE_HALF = 512

---@class macp.plane.Run
---@field seq integer last number given
---@field committed_seq integer last number that is stored
---@field event_seq integer number of the last stored canonical event
---@field cursor integer accepted envelopes received
---@field state table projection
---@field shadow string[]|nil documents since a rebuild of the projection began
---@field span macp.Span|nil its lifecycle, while that is recorded
---@field raw_kind string|nil of what was received last
---@field gone string|nil why this object no longer owns the run: "lost", "reload", "ended"
local Run = {}
Run.__index = Run

local M = {}

-- What every event says about the trace, as JSON members; each followed by a comma.
local function flat_trace_json(trace_id, span)
  if trace_id == nil then return "" end
  local members = '"traceId":' .. quote(trace_id) .. ","
  if span then members = members .. '"spanId":"' .. span.span_id .. '",' end
  if span and span.parent_span_id then members = members .. '"parentSpanId":"' .. span.parent_span_id .. '",' end
  return members
end

-- The same as an object.
local function trace_json(trace_id, span)
  if trace_id == nil then return "" end
  return '"trace":{' .. flat_trace_json(trace_id, span):sub(1, -2) .. "},"
end

---What all events of a run begin with, as JSON text; for `document`.
---@return string head
---@return string middle
---@return string trace
---@return string flat_trace
local function heading(id, trace_id, span)
  return '{"id":"' .. event_id.prefix(id), '","runId":"' .. id .. '","seq":', trace_json(trace_id, span),
    flat_trace_json(trace_id, span)
end

M.heading = heading

-- An event as JSON text. Subject, source and trace are told as objects and as flat members: readers know either.
local function document(run, seq, ts, event_type, subject_kind, subject_id, source, data_json)
  local subject = ""
  if subject_kind then
    local id = quote(subject_id or "")
    subject = '"subject":{"kind":"' .. subject_kind .. '","id":' .. id .. '},"subjectKind":"' .. subject_kind
      .. '","subjectId":' .. id .. ","
  end
  return run.head .. format("%012x", seq) .. run.middle .. seq .. ',"ts":"' .. ts .. '","type":'
    .. quote_name(event_type) .. ',"schemaVersion":3,' .. subject .. source .. run.trace .. run.flat_trace
    .. '"data":' .. data_json
    .. "}"
end

M.document = document

---@param row { tenant: string, id: string, session_id: string, kind: string, status: string, trace_id: string|nil,
---  context: macp.TraceContext|nil, created_ms: integer, started_ms: integer|nil }
---@param writer table of plane/writer.lua
---@param restored { seq: integer, cursor: integer, state: table, metrics: table, checkpoint_seq: integer }|nil
function M.new(row, writer, restored)
  restored = restored or {}
  local id, trace_id, span = row.id, row.trace_id, run_trace.recorded(row.context)
  local head, middle, trace, flat_trace = heading(id, trace_id, span)
  local self = setmetatable({
    tenant = row.tenant, id = id, session_id = row.session_id, kind = row.kind, status = row.status,
    trace_id = trace_id, span = span, span_id = span and span.span_id,
    created_ms = row.created_ms, started_ms = row.started_ms,
    writer = writer, prices = writer.owner.prices, redactor = writer.owner.redactor or nil,
    seq = restored.seq or 0, committed_seq = restored.seq or 0,
    cursor = restored.cursor or 0,
    event_seq = restored.state and restored.state.latest_seq or 0,
    state = restored.state or projection.new(id), metrics = restored.metrics or run_metrics.new(),
    checkpoint_seq = restored.checkpoint_seq or 0, milestone_seq = restored.checkpoint_seq or 0,
    mode_milestone_seq = restored.checkpoint_seq or 0,
    milestone_bytes = restored.milestone_bytes or 0, milestone_stride = 1, -- see snapshot.lua
    stored_bytes = 0, host_bytes = 0, mode_bytes = 0, -- sizes of the last stored state, and of its two parts
    last_event_ms = 0, session = nil, rev = nil, rev_key = nil, rev_started = false, gone = nil, skip = nil,
    roles = nil, -- of the participants of a session that was opened here
    seen = {}, seen_before = {}, seen_count = 0, rendered = nil, rendered_seq = nil, wants_render = false,
    session_json = quote(row.session_id or ""), mode_name = nil, mode_json = '""',
    head = head, middle = middle, trace = trace, flat_trace = flat_trace,
    -- What log lines and calls of its tasks have in common.
    scope = { row.context, run_id = id, trace_id = trace_id },
  }, Run)
  return self
end

---Binds the run to what the runtime said about its session.
---@param session table see plane/binding.lua
---@param rev table|nil mode revision
function Run:bind(session, rev)
  self.session, self.mode_name = session, session.mode_name
  self.mode_json = quote(session.mode_name)
  self.rev, self.rev_key = rev, rev and self.id or nil
end

---true once no event of the session can change the run any more.
function Run:has_ended()
  return TERMINAL[self.status] == true
end

-- Where an event comes from, as JSON text; few different ones exist.
local sources, source_count = {}, 0

---@param kind "runtime"|"macp-control-plane"
---@param name string
---@param raw_type string|nil
function M.source(kind, name, raw_type)
  local key = kind .. "\0" .. name .. "\0" .. (raw_type or "")
  local source = sources[key]
  if source == nil then
    local raw = raw_type and (',"rawType":' .. quote(raw_type)) or ""
    source = '"source":{"kind":' .. quote(kind) .. ',"name":' .. quote(name) .. raw .. '},"sourceKind":' .. quote(kind)
      .. ',"sourceName":' .. quote(name) .. raw .. ","
    if source_count >= 1024 then sources, source_count = {}, 0 end
    sources[key], source_count = source, source_count + 1
  end
  return source
end

-- The fold reads this table during the call only.
local event = { data = nil }

---Adds one canonical event: numbers it, folds it and puts its row into the open batch.
---@param ms integer its time
---@param event_type string
---@param subject_kind string|nil
---@param subject_id string|nil
---@param source string of M.source
---@param data_json string the event's data as JSON text
---@param data table the same as a table, as far as the fold needs it
---@return integer seq
function Run:emit(ms, event_type, subject_kind, subject_id, source, data_json, data)
  local seq = self.seq + 1
  self.seq, self.last_event_ms = seq, ms
  local ts = text.iso(ms)
  local told = document(self, seq, ts, event_type, subject_kind, subject_id, source, data_json)
  if subject_id == "" then subject_id = nil end
  event.seq, event.ts, event.type, event.data = seq, ts, event_type, data
  event.subject_kind, event.subject_id, event.trace_id = subject_kind, subject_id, self.trace_id
  event.span_id = self.span_id
  if self.span then run_trace.note(self.span, seq, ms, event_type, subject_id, data) end
  apply(self.state, event)
  count(self.metrics, event, ms, self.state)
  if self.rev_started then mode_fold.apply(self.rev, self.rev_key, event_type, told) end
  local batch = self.writer:open_for(self)
  events_store.add_canonical(batch, self.tenant, self.id, seq, ms, event_type, told)
  batch:note_event(self, seq, told, event_type)
  local shadow = self.shadow
  if shadow then shadow[#shadow + 1] = told end
  return seq
end

---Adds what was received, as bytes; takes a number of its own.
---@param ordinal integer|nil position in the session's accepted history
function Run:receive_frame(ms, kind, ordinal, frame)
  local seq = self.seq + 1
  self.seq, self.last_event_ms, self.raw_kind = seq, ms, kind
  if ordinal then self.cursor = ordinal end
  local batch = self.writer:open_for(self, ordinal)
  events_store.add_raw_frame(batch, self.tenant, self.id, seq, ms, kind, ordinal, frame)
  batch:note_raw(self, seq, #frame)
end

---Adds what was received, as JSON text; takes a number of its own.
function Run:receive_document(ms, kind, payload_json)
  local seq = self.seq + 1
  self.seq, self.last_event_ms = seq, ms
  local batch = self.writer:open_for(self)
  events_store.add_raw_document(batch, self.tenant, self.id, seq, ms, kind, payload_json)
  batch:note_raw(self, seq, #payload_json)
end

---true when a message with this id came before (among the last 1024); remembers it.
function Run:is_duplicate(message_id)
  local seen = self.seen
  if seen[message_id] or self.seen_before[message_id] then return true end
  if self.seen_count >= DEDUPE_HALF then
    self.seen_before, self.seen_count = seen, 0
    seen = {}
    self.seen = seen
  end
  seen[message_id] = true
  self.seen_count = self.seen_count + 1
  return false
end

---Times of an envelope of the session: session time, wall time.
---@param timestamp_ms integer 0: not given
---@param received_ms integer
function Run:session_time(timestamp_ms, received_ms)
  local clock = self.state.clock
  if clock.started_ms == nil and self.session then clock.started_ms = self.session.started_ms end
  return session_clock.tell(clock, timestamp_ms, received_ms)
end

---Forgets everything that a closed run does not need.
function Run:release()
  if self.rev and self.rev_started then self.rev:drop(self.rev_key) end
  self.rev_started = false
  self.seen, self.seen_before, self.rendered = {}, {}, nil
end

return M
