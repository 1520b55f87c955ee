-- The trace of a run: the span `run.lifecycle` from its creation to its end, kept with the row so that the process that
-- takes the run over goes on with it. Without tracing the context of who asked for the run is handed on, if there is one.

local json = require("macp.core.json")
local trace_context = require("macp.telemetry.trace_context")
local tracer_module = require("macp.telemetry.tracer")

local NAME = "run.lifecycle"

local M = {}

local function attributes_of(facts)
  return { run_id = facts.id, runtime_kind = facts.kind, mode_name = facts.mode_name or "",
    execution_mode = facts.execution_mode or "live" }
end

---The context of a new run.
---@param tracer macp.Tracer|nil
---@param facts { id: string, kind: string, mode_name: string, execution_mode: string, created_ms: integer }
---@param parent macp.TraceContext|nil of the request that creates it
---@return macp.Span|macp.TraceContext|nil
function M.begin(tracer, facts, parent)
  if tracer == nil or not tracer.is_on then return parent end
  local span = tracer:start(NAME, parent, attributes_of(facts))
  span.start_ms = facts.created_ms
  return span
end

---The trace id of a run: every run has one.
function M.id_of(context) return context and context.trace_id or trace_context.new_trace_id() end

---JSON text for the row, nil when there is nothing to keep.
function M.stored(context)
  if context == nil then return nil end
  return json.encode({ traceId = context.trace_id, spanId = context.span_id, parentSpanId = context.parent_span_id,
    sampled = context.sampled, state = context.state, remote = context.is_remote })
end

-- What was stored, as a context; nil when it is none.
local function read(text)
  local kept = text and json.decode(text)
  if type(kept) ~= "table" or type(kept.traceId) ~= "string" or type(kept.spanId) ~= "string" then return nil end
  return { trace_id = kept.traceId, span_id = kept.spanId, parent_span_id = kept.parentSpanId,
    sampled = kept.sampled == true, state = kept.state, is_remote = kept.remote }
end

---The context of a run for somebody else: a span that ends elsewhere.
---@param text string|nil of the row
---@return macp.TraceContext|nil
function M.read(text) return read(text) end

---The context of a run that was stored.
---@param tracer macp.Tracer|nil
---@param text string|nil of the row
---@param facts table as for begin
---@return macp.Span|macp.TraceContext|nil
function M.restore(tracer, text, facts)
  local context = read(text)
  if context == nil or context.is_remote or tracer == nil then return context end
  context.name, context.kind, context.start_ms = NAME, tracer_module.INTERNAL, facts.created_ms
  context.attributes = attributes_of(facts)
  return tracer:resume(context)
end

---The run's own span, while it is recorded.
---@param context macp.Span|macp.TraceContext|nil
---@return macp.Span|nil
function M.recorded(context) return context and context.sampled and context.finish and context or nil end

local function payload_of(data) return type(data.decodedPayload) == "table" and data.decodedPayload or data end

-- Canonical events that are worth a mark on the run's span: what is told of them.
local NOTED = {
  ["signal.emitted"] = function(data)
    return { name = tostring(payload_of(data).signalType or "Signal"), sender = data.sender }
  end,
  ["signal.acknowledged"] = function(data, id)
    local payload = payload_of(data)
    return { signalId = tostring(payload.signalId or payload.signal_id or id or ""), sender = data.sender }
  end,
  ["policy.denied"] = function(data) return { errorCode = tostring(data.errorCode or "POLICY_DENIED") } end,
  ["decision.finalized"] = function(data)
    local payload = payload_of(data)
    local outcome = payload.outcome_positive
    if outcome == nil then outcome = payload.outcomePositive end
    local told = { action = tostring(payload.action or data.action or "") }
    if outcome ~= nil then told.outcome = outcome == true and "positive" or "negative" end
    return told
  end,
}

---An event of a recorded run.
---@param span macp.Span
function M.note(span, seq, ms, event_type, subject_id, data)
  local tell = NOTED[event_type]
  if tell == nil then return end
  local attributes = tell(data, subject_id)
  attributes.seq = seq
  span:event(event_type, attributes, ms)
end

---The run has ended.
---@param reason { code: string, message: string }|nil of a failure
function M.finish(run, status, reason, ms)
  local span = run.span
  if span == nil then return end
  span.attributes["run.terminal_status"] = status
  span.attributes.mode_name = run.mode_name or span.attributes.mode_name
  if status == "failed" then
    span:fail(reason or { code = "INTERNAL_ERROR", message = "failed" })
  else
    span:set_status(tracer_module.OK)
  end
  span:finish(ms)
end

---A batch of the run was stored and told to its listeners: one span each, for the whole of it.
---@param tracer macp.Tracer
---@param entry table of a batch
---@param began_ms integer when storing began; stored_ms: when it was done
function M.stored_batch(tracer, entry, began_ms, stored_ms)
  local run = entry.run
  local count = entry.n
  local persist = tracer:start("run-event.persist", run.span,
    { run_id = run.id, ["macp.event_count"] = count, ["macp.raw_kind"] = run.raw_kind or "" })
  persist.start_ms = began_ms
  persist:finish(stored_ms)
  if count == 0 then return end
  local emit = tracer:start("run-event.emit", run.span, { run_id = run.id, ["macp.event_count"] = count })
  emit.start_ms = stored_ms
  emit:finish()
end

return M
