-- Metrics of the plane, declared once.

local breaker = require("macp.core.breaker")

local BREAKER_VALUES = { [breaker.CLOSED] = 0, [breaker.HALF_OPEN] = 1, [breaker.OPEN] = 2 }
local TYPES_MAX = 200

local M = {}

-- Labels that come from outside: at most 200 different ones, then `other`.
local function bounded()
  local known, count = {}, 0
  return function(value)
    if known[value] then return value end
    if count >= TYPES_MAX then return "other" end
    known[value], count = true, count + 1
    return value
  end
end

---@param registry macp.Metrics
function M.new(registry)
  local inbound = registry:counter("macp_inbound_messages_total", "Envelopes received from the runtime.",
    { "mode", "message_type" })
  local signals = registry:counter("macp_signals_total", "Signals received from the runtime.", { "signal_type" })
  local persisted = registry:counter("macp_events_persisted_total", "Events stored.", { "kind" })
  local raw, canonical = persisted:labels("raw"), persisted:labels("canonical")
  local batch_size = registry:histogram("macp_pipeline_batch_size", "Events per commit.", {},
    { 1, 2, 5, 10, 25, 50, 100, 250, 500, 1000 }):labels()
  local database = registry:histogram("macp_db_query_seconds",
    "Time of database work: statements, transactions of requests, commits of events.", { "op" },
    { 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1 })
  local commit = database:labels("commit")
  local failures = registry:counter("macp_circuit_breaker_failures_total",
    "Calls to the runtime that spoke against its health.", {}):labels()
  local successes = registry:counter("macp_circuit_breaker_success_total",
    "Calls to the runtime that spoke for its health.", {}):labels()
  local outbound = registry:counter("macp_outbound_messages_total", "Frames sent to the runtime.",
    { "category", "status" }):labels("observer", "subscribed")
  local lua_errors = registry:counter("macp_lua_errors_total", "Failures of mode scripts while they read sessions.",
    { "mode" })
  local state = registry:gauge("circuit_breaker_state", "0 closed, 1 half-open, 2 open.", {}):labels()
  state:set(0)
  local mode_label, type_label, signal_label = bounded(), bounded(), bounded()
  local inbound_series = {}
  local deliveries = registry:counter("macp_webhook_deliveries_total", "Webhook deliveries that ended.", { "status" })
  local attempts = registry:histogram("macp_webhook_attempt_seconds", "Time of attempts to deliver webhooks.",
    { "result" }, { .01, .05, .1, .5, 1, 5, 10, 30 })
  deliveries:labels("delivered")
  deliveries:labels("failed")
  local retention = registry:counter("macp_retention_deleted_total", "Rows that retention deleted.", { "kind" })
  local retention_seconds = registry:gauge("macp_retention_pass_seconds", "Time of the last pass of retention.", {})
    :labels()
  return {
    retention = {
      deleted = function(kind, n) retention:labels(kind):inc(n) end,
      passed = function(ms) retention_seconds:set(ms / 1000) end,
    },
    webhooks = {
      on_attempt = function(outcome)
        attempts:observe(outcome.ok and "ok" or outcome.status and "refused" or "unreached", outcome.ms / 1000)
      end,
      on_finished = function(status)
        if status ~= "pending" then deliveries:inc(status) end
      end,
    },
    inbound = function(mode, message_type)
      mode, message_type = mode_label(mode and mode ~= "" and mode or "unknown"), type_label(message_type)
      local by_type = inbound_series[mode]
      if by_type == nil then
        by_type = {}
        inbound_series[mode] = by_type
      end
      local series = by_type[message_type]
      if series == nil then
        series = inbound:labels(mode, message_type)
        by_type[message_type] = series
      end
      series:inc()
    end,
    signal = function(signal_type) signals:labels(signal_label(signal_type)):inc() end,
    on_batch = function(batch, ms)
      raw:inc(batch.raw_count)
      canonical:inc(batch.count - batch.raw_count)
      batch_size:observe(batch.count)
      commit:observe(ms / 1000)
    end,
    enrolled = function(events) canonical:inc(events) end,
    subscribed = function() outbound:inc() end,
    lua_error = function(mode) lua_errors:inc(mode_label(mode and mode ~= "" and mode or "unknown")) end,
    on_query = function(op, ms) database:labels(op):observe(ms / 1000) end,
    breaker_result = function(ok)
      if ok then successes:inc() else failures:inc() end
    end,
    breaker_state = function(name) state:set(BREAKER_VALUES[name]) end,
    transitions = registry:counter("run_state_transitions_total", "Changes of run status.", { "status" }),
    run_duration = registry:histogram("macp_run_duration_seconds", "Duration of runs.",
      { "terminal_status", "mode_name" }, { .1, .5, 1, 2, 5, 10, 30, 60, 120, 300, 600 }),
    grpc_duration = registry:histogram("grpc_call_duration_seconds", "Calls to the runtime.", { "method", "status" },
      { .01, .05, .1, .5, 1, 5, 10, 30 }),
    streams = registry:gauge("active_runtime_streams", "Open session streams.", {}):labels(),
    reconnects = registry:counter("macp_stream_reconnects_total", "Session streams lost.", {}):labels(),
    reconcile_failures = registry:counter("macp_discovery_reconcile_failures_total",
      "Lists of the runtime's sessions that could not be read after the watch was lost.", {}):labels(),
    recovery = registry:counter("macp_recovery_total", "Runs picked up again.", { "status" }),
    slow = registry:counter("macp_sse_dropped_total", "Subscribers that fell back to reading rows.", {}):labels(),
    depth = registry:gauge("macp_pipeline_queue_depth", "Events that wait to be stored.", {}):labels(),
  }
end

return M
