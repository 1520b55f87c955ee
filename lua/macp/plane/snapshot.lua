-- What of a run is stored besides its events: projection, counters, the mode's state. Everything here describes the
-- run at its last numbered event, so it belongs into the batch that holds this event.

local fault = require("macp.core.fault")
local projection = require("macp.plane.projection.state")
local run_metrics = require("macp.plane.run_metrics")
local run_stats = require("macp.plane.run_stats")
local session_clock = require("macp.plane.session_clock")
local text = require("macp.plane.text")

local metrics_store = require("macp.store.metrics")
local projections_store = require("macp.store.projections")
local runs_store = require("macp.store.runs")
local sessions_store = require("macp.store.sessions")

local BYTES_PER_EVENT = 64 -- of stored state that one event may cause on average

local HOST_MILESTONE = { every = 500, bytes_per_event = 64 }
local MODE_MILESTONE = { every = 1000, bytes_per_event = 192 }
local LEFT_BY_THINNING = 0.6 -- of bytes: the newest stay, which are the larger ones

local M = { EVERY = 200 }

---The mode's part of the projection as JSON text, nil when no mode reads this run.
function M.mode_view(run)
  if run.rev == nil or not run.rev_started then return nil end
  local view = run.rev:render(run.rev_key, nil, session_clock.base_ms(run.state.clock))
  if view and run.redactor then view = run.redactor:json(view) end
  return view and text.clean(view)
end

---Host projection and mode view as the one document that clients see.
function M.join(document, mode_view)
  if mode_view == nil then return document end
  return document:sub(1, -2) .. ',"mode":' .. mode_view .. "}"
end

---The projection as clients see it, rendered once per version of the run and of the mode's presentation.
---@param run macp.plane.Run
---@return string json
function M.text(run)
  local presentation = run.rev and run.rev.presentation
  if run.rendered_seq ~= run.seq or run.rendered == nil or run.rendered_by ~= presentation then
    run.rendered, run.rendered_seq = M.join(projection.render(run.state), M.mode_view(run)), run.seq
    run.rendered_by = presentation
  end
  return run.rendered
end

---The projection as a row.
function M.stored(run, now_ms)
  local rev = run.rev_started and run.rev or nil
  return {
    seq = run.seq, schema_version = projection.STORED_VERSION, document = projection.render(run.state),
    internal = projection.internal(run.state), mode_state = rev and rev:encode(run.rev_key),
    mode_view = M.mode_view(run), presentation = rev and rev.presentation, at_ms = now_ms,
  }
end

---true when enough happened since the last stored state. A state that has grown is stored less often, so that a run of
---any length pays the same for it per event.
function M.is_due(run)
  local since = run.seq - run.checkpoint_seq
  return since >= M.EVERY and since * BYTES_PER_EVENT >= run.stored_bytes
end

-- Milestones are where states of the past are folded from. A large part is stored less often than a small one, so that
-- each event costs the same; and they become twice as rare each time when the run has as many as it may have.
local function is_milestone(rule, since, bytes, stride)
  return since >= rule.every * stride and since * rule.bytes_per_event >= bytes * stride
end

---true when a state of the past should be stored again.
function M.milestone_is_due(run)
  return is_milestone(HOST_MILESTONE, run.seq - run.milestone_seq, run.host_bytes, run.milestone_stride)
end

-- Notes the bytes of another milestone; when there are too many, every second one goes.
local function bound_milestones(batch, run, bytes)
  run.milestone_bytes = run.milestone_bytes + bytes
  if run.milestone_bytes <= run.writer.owner.milestone_bytes then return end
  projections_store.add_thinning(batch, run.tenant, run.id)
  run.milestone_bytes, run.milestone_stride = run.milestone_bytes * LEFT_BY_THINNING, run.milestone_stride * 2
end

---Adds a milestone to a batch that holds the run's last event; the mode's state is part of every few.
---@param batch macp.plane.Batch
---@param stored table|nil of M.stored, when it is there anyway
---@return integer bytes
function M.add_milestone(batch, run, stored)
  local rev = run.rev_started and run.rev or nil
  local has_mode = rev
    and is_milestone(MODE_MILESTONE, run.seq - run.mode_milestone_seq, run.mode_bytes, run.milestone_stride)
  local mode_state
  if has_mode then mode_state = stored and stored.mode_state or rev:encode(run.rev_key) end
  local milestone = {
    seq = run.seq, schema_version = projection.STORED_VERSION, mode_state = mode_state,
    document = stored and stored.document or projection.render(run.state),
    internal = stored and stored.internal or projection.internal(run.state),
  }
  batch:own(run)
  projections_store.add_checkpoint(batch, run.tenant, run.id, milestone)
  run.milestone_seq, run.host_bytes = run.seq, #milestone.document + #milestone.internal
  if mode_state then run.mode_milestone_seq, run.mode_bytes = run.seq, #mode_state end
  local bytes = run.host_bytes + #(mode_state or "")
  bound_milestones(batch, run, bytes)
  return bytes
end

---Adds the run's state to a batch that holds its last event.
---@param batch macp.plane.Batch
function M.add(batch, run, now_ms)
  fault("projection.checkpoint")
  local stored = M.stored(run, now_ms)
  batch:own(run)
  projections_store.add_upsert(batch, run.tenant, run.id, stored)
  if M.milestone_is_due(run) then M.add_milestone(batch, run, stored) end
  metrics_store.add_upsert(batch, run.tenant, run.id, run.metrics, run_metrics.duration_ms(run.metrics), now_ms)
  run_stats.store(batch, run)
  runs_store.add_checkpoint(batch, run.tenant, run.id, run.seq, now_ms, run.metrics)
  if run.session then
    sessions_store.add_checkpoint(batch, run.tenant, run.id, run.cursor, run.metrics.session_state, now_ms)
  end
  run.checkpoint_seq = run.seq
  run.stored_bytes = #stored.document + #stored.internal + #(stored.mode_state or "") + #(stored.mode_view or "")
end

return M
