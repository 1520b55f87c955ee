-- The life of a run: every change of status is its events, its row and its webhook deliveries, added to one batch.
-- Nothing yields. Status only moves along the edges below; asking for what already is does nothing.

local crypto = require("host.crypto")
local sys = require("host.sys")

local errors = require("macp.core.errors")
local json = require("macp.core.json")
local run_module = require("macp.plane.run")
local run_trace = require("macp.plane.run_trace")
local telling = require("macp.plane.telling")
local text = require("macp.plane.text")

local artifacts_store = require("macp.store.artifacts")
local runs_store = require("macp.store.runs")
local sessions_store = require("macp.store.sessions")

local OWN = "macp-control-plane"
local OPEN = "SESSION_STATE_OPEN"

local FROM = {
  starting = { queued = true },
  binding_session = { starting = true },
  running = { binding_session = true, suspended = true },
  suspended = { running = true, binding_session = true },
  completed = { running = true, suspended = true, binding_session = true },
  failed = { queued = true, starting = true, binding_session = true, running = true, suspended = true },
  cancelled = { queued = true, starting = true, binding_session = true, running = true, suspended = true },
}

local M = {}

local function meters(run) return run.writer.owner.metrics end

local function emit(run, ms, event_type, kind, id, name, data)
  return run:emit(ms, event_type, kind, id, run_module.source(OWN, name), text.told(data))
end

-- Changes the status in memory and adds the row's change; call it after the events of the change.
local function transition(run, ms, status, change)
  change = change or {}
  change.status, change.seq, change.at_ms = status, run.seq, ms
  runs_store.add_transition(run.writer:open_for(run), run.tenant, run.id, change)
  run.status = status
  if meters(run) then meters(run).transitions:inc(status) end
end

---What a change that may not be is told.
---@param run_id string
---@param from string
---@param to string
---@return macp.Error INVALID_STATE_TRANSITION
function M.forbidden(run_id, from, to)
  return errors.new("INVALID_STATE_TRANSITION", { from = from, to = to },
    string.format("run %s is %s and cannot become %s", run_id, from, to))
end

---true when the run may go to `status` now; false when it is there already.
---@return boolean|nil
---@return macp.Error|nil INVALID_STATE_TRANSITION
local function may_enter(run, status)
  if run.status == status then return false end
  if FROM[status][run.status] then return true end
  return nil, M.forbidden(run.id, run.status, status)
end

---The event of a run's start alone.
---@param ms integer when it was
function M.tell_started(run, ms, mode_name)
  run.started_ms = run.started_ms or ms
  emit(run, ms, "run.started", "run", run.id, "run-manager", { status = "starting",
    startedAt = text.iso(run.started_ms), modeName = mode_name, runtimeKind = run.kind, traceId = run.trace_id })
end

---The first event of a run; its row exists already, or is stored with it.
---@param run { emit: function, id: string, kind: string, session_id: string, trace_id: string|nil }
---@param facts { mode_name: string, runtime_version: string|nil }
---@param ms integer when the run was made
function M.created(run, facts, ms)
  emit(run, ms, "run.created", "run", run.id, "run-manager", { status = "queued", modeName = facts.mode_name,
    runtimeKind = run.kind, runtimeVersion = facts.runtime_version, sessionId = run.session_id,
    traceId = run.trace_id })
end

---The launch of the run begins: from now on it waits for its session.
---@param run macp.plane.Run|macp.plane.Announced
function M.starting(run, mode_name)
  local ok, err = may_enter(run, "starting")
  if not ok then return ok, err end
  local ms = sys.now_ms()
  M.tell_started(run, ms, mode_name)
  transition(run, ms, "starting", { started_ms = run.started_ms })
  return true
end

---A run is stored as queued.
---@param counted table|nil metrics of the plane
---@param events integer that were stored with it, other than by a writer
function M.queued(counted, events)
  if counted == nil then return end
  counted.transitions:inc("queued")
  if events > 0 then counted.enrolled(events) end
end

local function session_row(run, ms)
  local session = run.session
  return {
    runtime_kind = run.kind, session_id = run.session_id, mode_name = session.mode_name,
    mode_version = session.mode_version, mode_revision = run.rev and run.rev.hash,
    configuration_version = session.configuration_version, policy_version = session.policy_version,
    initiator = session.initiator, session_state = session.state, started_ms = session.started_ms,
    expires_ms = session.expires_ms, seen_ms = ms, capabilities = session.capabilities,
    metadata = json.encode({ participants = json.array(session.participants), policy = session.policy,
      contextId = session.context_id, extensionKeys = session.extension_keys }),
  }
end

---The session is there: run:bind was called.
function M.bound(run)
  local ok, err = may_enter(run, "binding_session")
  if not ok then return ok, err end
  local ms, session = sys.now_ms(), run.session
  emit(run, ms, "session.bound", "session", run.session_id, "run-manager", {
    sessionId = run.session_id, initiator = session.initiator, state = session.state, modeName = session.mode_name,
    modeVersion = session.mode_version, modeScriptVersion = run.rev and run.rev.hash,
    configurationVersion = session.configuration_version, policyVersion = session.policy_version,
    participants = json.array(session.participants), contextId = session.context_id,
    extensionKeys = session.extension_keys,
  })
  for _, id in ipairs(session.participants) do
    emit(run, ms, "participant.seen", "participant", id, "run-manager", { participantId = id, status = "idle",
      role = run.roles and run.roles[id] })
  end
  sessions_store.add_upsert(run.writer:open_for(run), run.tenant, run.id, session_row(run, ms))
  transition(run, ms, "binding_session")
  return true
end

---The session is observed.
function M.running(run)
  local ok, err = may_enter(run, "running")
  if not ok then return ok, err end
  local ms = sys.now_ms()
  if run.status == "suspended" then
    emit(run, ms, "run.resumed", "run", run.id, "run-manager",
      { status = "running", runtimeSessionId = run.session_id, traceId = run.trace_id })
    transition(run, ms, "running")
    telling.tell(run, ms, "run.resumed", "running")
    return true
  end
  emit(run, ms, "session.state.changed", "session", run.session_id, "run-manager",
    { sessionId = run.session_id, state = OPEN })
  transition(run, ms, "running")
  telling.tell(run, ms, "run.started", "running")
  return true
end

---The trace of the run as an artifact.
function M.register_trace(run)
  local ms, id = sys.now_ms(), crypto.uuid7()
  local label = "Root run trace"
  artifacts_store.add_insert(run.writer:open_for(run), run.tenant, run.id,
    { id = id, kind = "trace", label = label, inline = json.encode({ traceId = run.trace_id }) }, ms)
  emit(run, ms, "artifact.created", "artifact", id, "run-executor",
    { kind = "trace", label = label, traceId = run.trace_id, artifactId = id })
end

---The runtime paused the session.
function M.suspended(run)
  local ok, err = may_enter(run, "suspended")
  if not ok then return ok, err end
  local ms = sys.now_ms()
  emit(run, ms, "run.suspended", "run", run.id, "run-manager",
    { status = "suspended", runtimeSessionId = run.session_id, traceId = run.trace_id })
  transition(run, ms, "suspended")
  telling.tell(run, ms, "run.suspended", "suspended")
  return true
end

---The observation was picked up again after a restart.
function M.recovered(run)
  emit(run, sys.now_ms(), "session.stream.opened", "session", run.session_id, "run-recovery",
    { sessionId = run.session_id, status = "recovered", detail = "stream resumed after restart" })
end

-- What a finished run's metadata gains.
---@param reason { message: string }|nil why it failed
local function enrichment(run, ms, reason)
  local metrics, current = run.metrics, run.state.decision.current
  local patch = { durationMs = math.max(0, ms - (run.started_ms or run.created_ms)), eventCount = metrics.event_count,
    modeName = run.mode_name, totalTokens = metrics.total_tokens, estimatedCostUsd = metrics.estimated_cost_usd,
    error = reason and reason.message }
  if metrics.signal_count > 0 then patch.signalCount = metrics.signal_count end
  if metrics.decision_count > 0 then patch.decisionCount = metrics.decision_count end
  if current and current.finalized then
    patch.finalAction, patch.finalConfidence = current.action, current.confidence
  end
  return text.clean(json.encode(patch))
end

local STATES = { completed = "SESSION_STATE_RESOLVED", cancelled = "SESSION_STATE_CANCELLED" }

---Ends the run. `reason` is for failures: { code = , message = }.
---@param status "completed"|"failed"|"cancelled"
---@param reason { code: string, message: string }|nil
---@param session_state string|nil the session's last state, when it was observed
function M.finish(run, status, reason, session_state)
  if run:has_ended() then return false end
  local ok, err = may_enter(run, status)
  if not ok then return ok, err end
  local ms = sys.now_ms()
  session_state = session_state or (run.session and STATES[status])
  if session_state and run.metrics.session_state ~= session_state then
    emit(run, ms, "session.state.changed", "session", run.session_id, "run-manager",
      { sessionId = run.session_id, state = session_state })
  end
  reason = status == "failed" and reason or nil
  emit(run, ms, "run." .. status, "run", run.id, "run-manager", { status = status, endedAt = text.iso(ms),
    runtimeSessionId = run.session_id, traceId = run.trace_id, error = reason and reason.message,
    errorCode = reason and reason.code })
  transition(run, ms, status, { ended_ms = ms, error_code = reason and reason.code,
    error_message = reason and reason.message, metadata = enrichment(run, ms, reason) })
  telling.tell(run, ms, "run." .. status, status, reason and { error = reason.message } or nil)
  run_trace.finish(run, status, reason, ms)
  if meters(run) then
    local seconds = math.max(0, ms - (run.started_ms or run.created_ms)) / 1000
    meters(run).run_duration:observe(status, run.mode_name or "unknown", seconds)
  end
  return true
end

return M
