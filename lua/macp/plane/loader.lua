-- Brings a run back into memory from what is stored: the last stored projection, the events after it, and the mode's
-- state. What comes out is exactly what the run would be had it never left.

local log = require("host.log")

local json = require("macp.core.json")
local binding = require("macp.plane.binding")
local history = require("macp.plane.history")
local projection = require("macp.plane.projection.state")
local run_metrics = require("macp.plane.run_metrics")
local run_module = require("macp.plane.run")
local run_stats = require("macp.plane.run_stats")
local run_trace = require("macp.plane.run_trace")
local session_clock = require("macp.plane.session_clock")
local telling = require("macp.plane.telling")

local events_store = require("macp.store.events")
local metrics_store = require("macp.store.metrics")
local participants_store = require("macp.store.participant_stats")
local projections_store = require("macp.store.projections")
local sessions_store = require("macp.store.sessions")

local M = {}

-- Projection and counters as they were stored together: when the projection changed while they were read, again.
-- (yields)
local function stored_pair(db, tenant, run_id)
  local row, err = projections_store.find(db, tenant, run_id)
  while true do
    if not row then return row, err end
    local metrics, metrics_err = metrics_store.find(db, tenant, run_id)
    if metrics == nil then return nil, metrics_err end
    local again, again_err = projections_store.find(db, tenant, run_id)
    if not again or again.seq == row.seq then return again, again_err or metrics end
    row = again
  end
end

-- Nothing to continue: what is folded now takes the place of all that is stored.
local function from_nothing(run_id)
  local metrics = run_metrics.new()
  metrics.stats.replaces = true
  return { seq = 0, state = projection.new(run_id), metrics = metrics }
end

---The stored projection and counters when they can be continued, else empty ones. (yields)
---@return { seq: integer, state: table, metrics: table, mode_state: string|nil, clock: table|nil }|nil
---@return table|nil err
function M.base(db, tenant, run_id)
  local row, metrics = stored_pair(db, tenant, run_id)
  if row == nil then return nil, metrics end
  if not row or not metrics or row.schema_version ~= projection.STORED_VERSION then
    return from_nothing(run_id)
  end
  local state, load_err = projection.load(run_id, row.document, row.internal)
  if state == nil then
    log.warn("projection.unreadable", { run_id = run_id, error = load_err.message or tostring(load_err) })
    return from_nothing(run_id)
  end
  local people, people_err = participants_store.of_run(db, tenant, run_id)
  if people == nil then return nil, people_err end
  metrics.stats = run_stats.restore(people)
  return { seq = row.seq, state = state, metrics = metrics, mode_state = row.mode_state,
    clock = session_clock.copy(state.clock) }
end

-- Starts or restores the mode's session of a run. (yields)
local function bring_mode(db, run, base, to)
  if run.rev == nil then return true end
  local replica = { rev = run.rev, key = run.rev_key, session = run.session, db = db, tenant = run.tenant,
    run_id = run.id }
  local result, err = history.rebuild_mode(replica, base, to)
  if result == nil and base.mode_state then
    log.warn("mode.restore_failed", { run_id = run.id, error = err.message or tostring(err) })
    run.rev:drop(run.rev_key)
    result, err = history.rebuild_mode(replica, nil, to)
  end
  if result == nil then
    log.error("mode.rebuild_failed", { run_id = run.id, error = err.message or tostring(err) })
    run.rev = nil
    return true
  end
  run.rev_started = result.started
  if result.clock then run.state.clock = result.clock end
  return true
end

---Loads a run that this process has just claimed.
---@param deps { db: table, writers: table, registry: table|nil, tracer: macp.Tracer|nil }
---@param row table a claimed row of store/runs.lua
---@return macp.plane.Run|nil
---@return table|nil err
---(yields)
function M.load(deps, row)
  local db, tenant, run_id = deps.db, row.tenant, row.id
  local base, err = M.base(db, tenant, run_id)
  if base == nil then return nil, err end
  local tail, tail_err = events_store.tail(db, tenant, run_id)
  if tail == nil then return nil, tail_err end
  local folded, fold_err = history.fold(db, tenant, run_id, base.seq, tail.seq, base.state, base.metrics)
  if folded == nil then return nil, fold_err end
  local milestones, milestones_err = projections_store.checkpoint_bytes(db, tenant, run_id)
  if milestones == nil then return nil, milestones_err end
  local metadata = json.decode(row.metadata or "{}") or {}
  local request = metadata.executionRequest
  local run = run_module.new({
    tenant = tenant, id = run_id, session_id = row.runtime_session_id, kind = row.runtime_kind, status = row.status,
    trace_id = row.trace_id, created_ms = row.created_at, started_ms = row.started_at,
    context = run_trace.restore(deps.tracer, row.trace_context, { id = run_id, kind = row.runtime_kind,
      created_ms = row.created_at, execution_mode = row.mode,
      mode_name = request and request.session and request.session.modeName }),
  }, deps.writers:of(run_id), {
    seq = tail.seq, cursor = tail.ordinal, state = base.state, metrics = base.metrics, checkpoint_seq = base.seq,
    milestone_bytes = milestones.bytes,
  })
  local session_row, session_err = sessions_store.find(db, tenant, run_id)
  if session_row == nil then return nil, session_err end
  if session_row then
    local session = binding.from_row(session_row)
    run:bind(session, binding.revision(deps.registry, session))
    bring_mode(db, run, base, tail.seq)
    local restored, restore_err = telling.restore(db, run)
    if restored == nil then return nil, restore_err end
  end
  run.metadata = metadata
  return run
end

return M
