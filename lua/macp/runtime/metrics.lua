-- The runtime's metrics, and the log lines that go with them. Declared here, counted where things happen.

local log = require("host.log")

local APPEND_BUCKETS = { 0.5, 1, 2, 5, 10, 20, 50, 100, 250, 1000 }
local BATCH_BUCKETS = { 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000 }

local TRANSITIONS = { "started", "resolved", "expired", "cancelled", "suspended", "resumed" }

local Metrics = {}
Metrics.__index = Metrics

local M = {}

---@param registry table services.metrics
---@param is_mode fun(mode: string): boolean whether a label value is a registered mode
function M.new(registry, is_mode)
  local function counter(name, help, labels) return registry:counter("macp_" .. name, help, labels or { "mode" }) end
  local transitions = {}
  for _, name in ipairs(TRANSITIONS) do
    transitions[name] = counter("sessions_" .. name .. "_total", "Sessions " .. name .. ".")
  end
  return setmetatable({
    is_mode = is_mode,
    accepted_series = {},
    transitions = transitions,
    messages_accepted = counter("messages_accepted_total", "Accepted session messages, starts and repeats excluded."),
    messages_rejected = counter("messages_rejected_total", "Refused Send calls that named a session."),
    commitments_accepted = counter("commitments_accepted_total", "Accepted Commitment messages."),
    commitments_rejected = counter("commitments_rejected_total", "Refused Commitment messages."),
    mode_failures = counter("mode_failures_total", "Messages refused because a mode script failed."),
    replay_mismatches = counter("replay_mismatches_total", "Histories that did not replay to what was recorded.", {}),
    auth_failures = counter("runtime_auth_failures_total", "Calls without a valid credential.", { "reason" }),
    rate_limited = counter("runtime_rate_limited_total", "Attempts over a rate limit.", { "bucket" }),
    lagged = counter("runtime_lagged_streams_total", "Streams ended because the reader was too slow.", { "kind" }),
    recovered = counter("runtime_recovered_sessions_total", "Sessions read back at start.", { "result" }),
    sessions_open = registry:gauge("macp_runtime_sessions_open", "Sessions open or suspended.", {}),
    sessions_loaded = registry:gauge("macp_runtime_sessions_loaded", "Sessions in memory.", {}),
    streams_open = registry:gauge("macp_runtime_streams_open", "Open streams and watches.", { "kind" }),
    journal_bytes = registry:gauge("macp_runtime_journal_bytes", "Size of the journal.", {}),
    journal_flushes = registry:gauge("macp_runtime_journal_flushes", "Flushes since the start.", { "result" }),
    journal_group = registry:gauge("macp_runtime_journal_group", "Mean records per flush since the start.", {}),
    append_ms = registry:histogram("macp_runtime_append_ms", "Milliseconds of a flush: write and sync of a group.", {},
      APPEND_BUCKETS):labels(),
    batch_records = registry:histogram("macp_runtime_batch_records", "Records per group that was flushed.", {},
      BATCH_BUCKETS):labels(),
    durable_ms = registry:histogram("macp_runtime_durable_ms", "Milliseconds until a message is durable.", {},
      APPEND_BUCKETS),
  }, Metrics)
end

---A session changed its state; everybody who runs a runtime wants to see that in the log, too.
---@param name "started"|"resolved"|"expired"|"cancelled"|"suspended"|"resumed"
function Metrics:transition(name, session)
  if log.enabled("info") then
    log.info("session." .. name, { session_id = session.id, mode = session.mode, initiator = session.initiator })
  end
  self.transitions[name]:inc(session.mode, 1)
  if name == "resolved" then self.commitments_accepted:inc(session.mode, 1) end
end

---Takes over what is cheaper to ask for than to keep up to date.
function Metrics:sample(sessions, journal)
  self.sessions_open:set(sessions.open)
  self.sessions_loaded:set(sessions.count)
  local stats = journal:stats()
  self.journal_bytes:set(stats.bytes)
  self.journal_flushes:set("ok", stats.syncs)
  self.journal_flushes:set("failed", stats.failed_syncs)
  self.journal_group:set(stats.mean_group)
end

---A group of records was flushed.
---@param records integer
---@param journal table
function Metrics:flushed(records, journal)
  self.batch_records:observe(records)
  self.append_ms:observe(journal:last_sync_ms())
end

---A message was accepted: on the path of every one, so the series is kept at hand.
function Metrics:accepted(session)
  local series = self.accepted_series[session.mode]
  if series == nil then
    series = self.messages_accepted:labels(session.mode)
    self.accepted_series[session.mode] = series
  end
  series:inc(1)
end

---A Send was refused. The label is a registered mode, and only when the caller is known.
---@param is_anonymous boolean the credential was refused
function Metrics:rejected(envelope, is_anonymous)
  if envelope.session_id == "" then return end
  local mode = not is_anonymous and self.is_mode(envelope.mode) and envelope.mode or "_unknown"
  self.messages_rejected:inc(mode, 1)
  if envelope.message_type == "Commitment" then self.commitments_rejected:inc(mode, 1) end
end

---A stored history did not lead to what was recorded of it.
function Metrics:mismatch() self.replay_mismatches:inc(1) end

function Metrics:faulty(session) self.mode_failures:inc(session.mode, 1) end

return M
