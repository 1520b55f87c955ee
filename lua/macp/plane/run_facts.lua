-- Summaries of a run for its readers: counters, trace, and the messages that were observed.

local errors = require("macp.core.errors")
local json = require("macp.core.json")
local time = require("macp.core.time")
local history = require("macp.plane.history")
local loader = require("macp.plane.loader")
local run_metrics = require("macp.plane.run_metrics")

local events_store = require("macp.store.events")
local metrics_store = require("macp.store.metrics")
local runs_store = require("macp.store.runs")

local MESSAGES = { "message.received", "message.send_failed" }
local NO_TRACE = ("0"):rep(32)

local M = {}

---The MetricsSummary of counters as plane/run_metrics.lua keeps them.
function M.summary(run_id, counters)
  local duration = run_metrics.duration_ms(counters)
  return {
    runId = run_id, eventCount = counters.event_count, messageCount = counters.message_count,
    signalCount = counters.signal_count, proposalCount = counters.proposal_count,
    toolCallCount = counters.tool_call_count, decisionCount = counters.decision_count,
    streamReconnectCount = counters.stream_reconnect_count, promptTokens = counters.prompt_tokens,
    completionTokens = counters.completion_tokens, totalTokens = counters.total_tokens,
    estimatedCostUsd = counters.estimated_cost_usd,
    firstEventAt = counters.first_event_ms and time.iso(counters.first_event_ms),
    lastEventAt = counters.last_event_ms and time.iso(counters.last_event_ms),
    durationMs = duration, sessionState = counters.session_state,
  }
end

-- The counters of a run that another process observes: those it has stored, and the events since. (yields)
local function folded(db, tenant, run_id)
  local base, err = loader.base(db, tenant, run_id)
  if base == nil then return nil, err end
  local done, fold_err = history.fold(db, tenant, run_id, base.seq, history.END, base.state, base.metrics)
  if not done then return nil, fold_err end
  return base.metrics
end

---The counters of a run, false without any. (yields)
---@param deps { db: table, owner: table }
function M.counters(deps, tenant, run_id)
  local run = deps.owner:get(tenant, run_id)
  if run then return run.metrics end
  local row, err = runs_store.find(deps.db, tenant, run_id)
  if row == nil then return nil, err end
  if row and row.ended_at == nil then return folded(deps.db, tenant, run_id) end
  return metrics_store.find(deps.db, tenant, run_id)
end

---The counters as clients see them; zeros when nothing was counted yet. (yields)
function M.metrics(deps, tenant, run_id)
  local counters, err = M.counters(deps, tenant, run_id)
  if counters == nil then return nil, err end
  return M.summary(run_id, counters or run_metrics.new())
end

---Trace, status and artifacts of a run. (yields)
---@param reader macp.plane.Reader
---@param row table of store/runs.lua
function M.trace(reader, tenant, row)
  local text, err = reader:state(tenant, row.id)
  if text == nil then return nil, err end
  local state = json.decode(text)
  local trace = state and state.trace or {}
  local trace_id = trace.traceId or row.trace_id
  if trace_id == NO_TRACE then trace_id = nil end
  return {
    traceId = trace_id, spanCount = trace.spanCount or 0, lastSpanId = trace.lastSpanId,
    linkedArtifacts = json.array(trace.linkedArtifacts or {}), runStatus = state and state.run.status or row.status,
    scenarioRef = reader.redactor and reader.redactor:any(row.source_ref) or row.source_ref,
  }
end

local function message_of(run_id, session_id, event)
  local data = event.data or {}
  local failed = event.type == "message.send_failed"
  return {
    id = event.id, runId = run_id, runtimeSessionId = session_id or json.null, seq = event.seq,
    messageId = data.messageId or json.null, messageType = data.messageType or json.null, category = "observed",
    sender = data.sender or json.null, recipients = json.array(type(data.to) == "table" and data.to or {}),
    status = failed and "rejected" or "accepted",
    payloadDescriptor = data.decodedPayload or data.payload or json.object({}), ack = json.null,
    errorMessage = data.errorMessage or json.null, createdAt = event.ts,
    acceptedAt = failed and json.null or event.ts, updatedAt = event.ts,
  }
end

---Messages that were observed, oldest first. (yields)
---@param row table of store/runs.lua
---@param after_seq integer
---@param limit integer
function M.messages(db, tenant, row, after_seq, limit)
  local rows, err = events_store.typed_range(db, tenant, row.id, after_seq, history.END, MESSAGES, limit)
  if rows == nil then return nil, err end
  local list = json.array({})
  for i, found in ipairs(rows) do
    local event, decode_err = json.decode(found.document)
    if event == nil then return nil, errors.wrap(decode_err, "stored event " .. found.seq) end
    list[i] = message_of(row.id, row.runtime_session_id, event)
  end
  return list
end

return M
