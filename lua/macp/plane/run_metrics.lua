-- Counters of one run, folded from its canonical events like the projection and stored with it.

local amounts = require("macp.plane.amounts")
local run_stats = require("macp.plane.run_stats")

local COUNTERS = {
  ["message.sent"] = "message_count", ["message.received"] = "message_count", ["message.send_failed"] = "message_count",
  ["signal.emitted"] = "signal_count",
  ["proposal.created"] = "proposal_count", ["proposal.updated"] = "proposal_count",
  ["tool.called"] = "tool_call_count", ["tool.completed"] = "tool_call_count",
  ["decision.finalized"] = "decision_count", ["decision.proposed"] = "decision_count",
}
-- A pause is told of the run only; the session pauses with it.
local PAUSES = { ["run.suspended"] = "SESSION_STATE_SUSPENDED", ["run.resumed"] = "SESSION_STATE_OPEN" }
local ENDINGS = { ["run.completed"] = true, ["run.failed"] = true, ["run.cancelled"] = true }

local M = {}

---The counters of a run that has no events yet.
function M.new()
  return {
    event_count = 0, message_count = 0, signal_count = 0, proposal_count = 0, tool_call_count = 0,
    decision_count = 0, stream_reconnect_count = 0, prompt_tokens = 0, completion_tokens = 0, total_tokens = 0,
    estimated_cost_usd = 0, first_event_ms = nil, last_event_ms = nil, session_state = nil, ended = false,
    stats = run_stats.new(),
  }
end

local count = amounts.count

local function add_usage(metrics, payload)
  local prompt = count(payload.promptTokens or payload.prompt_tokens)
  local completion = count(payload.completionTokens or payload.completion_tokens)
  if prompt + completion == 0 and payload.estimatedCostUsd == nil then return end
  metrics.prompt_tokens = metrics.prompt_tokens + prompt
  metrics.completion_tokens = metrics.completion_tokens + completion
  metrics.total_tokens = metrics.total_tokens + prompt + completion
  metrics.estimated_cost_usd = metrics.estimated_cost_usd + (amounts.measured(payload.estimatedCostUsd) or 0)
end

-- Usage that was found in an envelope is an event of its own. A payload that has counts at its top, and nowhere else, is
-- counted from the event made of it.
local function count_usage(metrics, event)
  local data = event.data
  local payload = data.decodedPayload
  if type(payload) ~= "table" then return end
  if event.type == "llm.call.completed" then
    metrics.counted_id = data.messageId
    return add_usage(metrics, payload)
  end
  if payload.encoding == "json" and type(payload.json) == "table" then payload = payload.json end
  if payload.promptTokens == nil and payload.prompt_tokens == nil and payload.completionTokens == nil
      and payload.completion_tokens == nil then
    return
  end
  if data.messageId == nil or data.messageId ~= metrics.counted_id then
    metrics.counted_id = data.messageId
    add_usage(metrics, payload)
  end
end

---Applies one event. The last event's time stands still once the run has ended.
---@param metrics table
---@param event table as the projection's fold takes it
---@param ms integer the event's time
---@param state table the projection, with the event folded into it
function M.apply(metrics, event, ms, state)
  local event_type = event.type
  run_stats.apply(metrics.stats, event, ms, state)
  metrics.event_count = metrics.event_count + 1
  metrics.first_event_ms = metrics.first_event_ms or ms
  local field = COUNTERS[event_type]
  if field then
    metrics[field] = metrics[field] + 1
  elseif PAUSES[event_type] then
    metrics.session_state = PAUSES[event_type]
  elseif event_type == "session.state.changed" then
    if type(event.data.state) == "string" then metrics.session_state = event.data.state end
  elseif event_type == "session.stream.opened" then
    if event.data.status == "reconnecting" then
      metrics.stream_reconnect_count = metrics.stream_reconnect_count + 1
    end
  end
  count_usage(metrics, event)
  if ENDINGS[event_type] or not metrics.ended then metrics.last_event_ms = ms end
  if ENDINGS[event_type] then metrics.ended = true end
end

---Elapsed time between the first and the last event, nil before the first.
function M.duration_ms(metrics)
  return metrics.first_event_ms and math.max(0, metrics.last_event_ms - metrics.first_event_ms)
end

return M
