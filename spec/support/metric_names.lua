-- Every metric of the program: name -> { type, labels, buckets }. The names are an interface: dashboards and alerts of
-- operators are built on them, so this list changes only with a note in the commit.

local PROCESS = {
  process_start_time_seconds = { "gauge" }, process_cpu_seconds_total = { "counter" },
  process_resident_memory_bytes = { "gauge" }, process_lua_memory_bytes = { "gauge" }, macp_tasks = { "gauge" },
  macp_mode_memory_bytes = { "gauge", { "mode" } }, macp_mode_reloads_total = { "counter", { "result" } },
}

local PLANE = {
  http_request_duration_seconds = { "histogram", { "method", "path", "status_code" },
    { .01, .05, .1, .25, .5, 1, 2.5, 5, 10 } },
  http_requests_total = { "counter", { "method", "path", "status_code" } },
  active_sse_connections = { "gauge" },
  active_runtime_streams = { "gauge" },
  run_state_transitions_total = { "counter", { "status" } },
  macp_run_duration_seconds = { "histogram", { "mode_name", "terminal_status" },
    { .1, .5, 1, 2, 5, 10, 30, 60, 120, 300, 600 } },
  grpc_call_duration_seconds = { "histogram", { "method", "status" }, { .01, .05, .1, .5, 1, 5, 10, 30 } },
  circuit_breaker_state = { "gauge" },
  macp_circuit_breaker_failures_total = { "counter" },
  macp_circuit_breaker_success_total = { "counter" },
  macp_outbound_messages_total = { "counter", { "category", "status" } },
  macp_inbound_messages_total = { "counter", { "message_type", "mode" } },
  macp_signals_total = { "counter", { "signal_type" } },
  macp_stream_reconnects_total = { "counter" },
  macp_recovery_total = { "counter", { "status" } },
  macp_webhook_deliveries_total = { "counter", { "status" } },
  macp_webhook_attempt_seconds = { "histogram", { "result" }, { .01, .05, .1, .5, 1, 5, 10, 30 } },
  macp_events_persisted_total = { "counter", { "kind" } },
  macp_pipeline_queue_depth = { "gauge" },
  macp_pipeline_batch_size = { "histogram", {}, { 1, 2, 5, 10, 25, 50, 100, 250, 500, 1000 } },
  macp_db_query_seconds = { "histogram", { "op" }, { 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1 } },
  macp_sse_dropped_total = { "counter" },
  macp_lua_errors_total = { "counter", { "mode" } },
  macp_discovery_reconcile_failures_total = { "counter" },
  macp_retention_deleted_total = { "counter", { "kind" } },
  macp_retention_pass_seconds = { "gauge" },
}

local TRACING = {
  macp_otlp_spans_total = { "counter", { "result" } }, macp_otlp_queue_spans = { "gauge" },
}

local MS = { 0.5, 1, 2, 5, 10, 20, 50, 100, 250, 1000 }

local RUNTIME = {
  macp_messages_accepted_total = { "counter", { "mode" } },
  macp_messages_rejected_total = { "counter", { "mode" } },
  macp_sessions_started_total = { "counter", { "mode" } },
  macp_sessions_resolved_total = { "counter", { "mode" } },
  macp_sessions_expired_total = { "counter", { "mode" } },
  macp_sessions_cancelled_total = { "counter", { "mode" } },
  macp_sessions_suspended_total = { "counter", { "mode" } },
  macp_sessions_resumed_total = { "counter", { "mode" } },
  macp_commitments_accepted_total = { "counter", { "mode" } },
  macp_commitments_rejected_total = { "counter", { "mode" } },
  macp_replay_mismatches_total = { "counter" },
  macp_mode_failures_total = { "counter", { "mode" } },
  macp_runtime_auth_failures_total = { "counter", { "reason" } },
  macp_runtime_rate_limited_total = { "counter", { "bucket" } },
  macp_runtime_lagged_streams_total = { "counter", { "kind" } },
  macp_runtime_recovered_sessions_total = { "counter", { "result" } },
  macp_runtime_sessions_open = { "gauge" },
  macp_runtime_sessions_loaded = { "gauge" },
  macp_runtime_streams_open = { "gauge", { "kind" } },
  macp_runtime_journal_bytes = { "gauge" },
  macp_runtime_journal_flushes = { "gauge", { "result" } },
  macp_runtime_journal_group = { "gauge" },
  macp_runtime_append_ms = { "histogram", {}, MS },
  macp_runtime_batch_records = { "histogram", {}, { 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000 } },
  macp_runtime_durable_ms = { "histogram", {}, MS },
}

local M = { process = PROCESS, plane = PLANE, tracing = TRACING, runtime = RUNTIME }

---What is wrong with the families of a program that should have the metrics of these lists and no others.
---@param families table of support/exposition.lua
---@return string[] problems
function M.problems(families, ...)
  local expected, problems = {}, {}
  for _, list in ipairs({ ... }) do
    for name, spec in pairs(list) do expected[name] = spec end
  end
  local function say(...) problems[#problems + 1] = string.format(...) end
  for name, spec in pairs(expected) do
    local found = families[name]
    if found == nil then
      say("%s is missing", name)
    else
      if found.type ~= spec[1] then say("%s is a %s", name, found.type) end
      if not found.help or found.help == "" then say("%s has no help", name) end
      local labels = table.concat(spec[2] or {}, ",")
      if #found.samples > 0 and table.concat(found.labels, ",") ~= labels then
        say("%s has the labels %s", name, table.concat(found.labels, ","))
      end
      if spec[3] and #found.samples > 0 and table.concat(found.buckets, " ") ~= table.concat(spec[3], " ") then
        say("%s has the buckets %s", name, table.concat(found.buckets, " "))
      end
    end
  end
  for name in pairs(families) do
    if expected[name] == nil then say("%s is in no list", name) end
  end
  table.sort(problems)
  return problems
end

return M
