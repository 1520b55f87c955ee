-- Reading the projection of any run: from memory when it is held here, else from what is stored. Nobody ever sees a
-- state that is not stored: while events are being written a reader waits for their commit.

local sys = require("host.sys")

local errors = require("macp.core.errors")
local aside = require("macp.plane.aside")
local history = require("macp.plane.history")
local projection = require("macp.plane.projection.state")
local session_clock = require("macp.plane.session_clock")
local snapshot = require("macp.plane.snapshot")

local events_store = require("macp.store.events")
local projections_store = require("macp.store.projections")
local runs_store = require("macp.store.runs")

local COMMIT_MS = 5000 -- how long a reader waits for a commit

---@class macp.plane.Reader
local Reader = {}
Reader.__index = Reader

local M = {}

---@param deps { db: table, owner: table, registry: table|nil, redactor: macp.plane.Redactor|false|nil }
function M.new(deps)
  return setmetatable(deps, Reader)
end

-- The projection of a run in memory; nil when it left memory meanwhile. (yields)
local function live_text(run)
  local wanted = run.seq
  while not run.gone do
    if run.committed_seq == run.seq then return snapshot.text(run), run.seq end
    if run.stored_text and run.stored_text_seq >= wanted then return run.stored_text, run.stored_text_seq end
    run.wants_render = true
    run.writer:include(run)
    local ok, err = run.writer.committed:wait(COMMIT_MS)
    if not ok and err.code == "TIMEOUT" then
      err = errors.new("SERVICE_UNAVAILABLE", nil, "the database does not store events at the moment")
    end
    if not ok then return nil, nil, err end
  end
  return nil
end

-- Calls fn(rev, key, clock) with the mode's session as the history up to seq leaves it, rebuilt aside; no clock: the
-- session has not started. false when no mode reads the run (any more). (yields)
local function beside(self, tenant, run_id, base, seq, fn)
  local session, rev = aside.mode_of(self, tenant, run_id)
  if session == nil then return nil, rev end
  if not session or rev == nil then return false end
  return aside.with(self, { tenant = tenant, run_id = run_id, session = session, rev = rev }, base, seq,
    function(_, key, result) return fn(rev, key, result.clock) end)
end

-- The mode's view of the history up to seq, computed aside. (yields)
local function view_at(self, tenant, run_id, base, seq)
  return beside(self, tenant, run_id, base, seq, function(rev, key, clock)
    local view, mode_state
    if clock then view, mode_state = aside.view(self, rev, key, clock), rev:encode(key) end
    return { view = view, mode_state = mode_state, presentation = rev.presentation, clock = clock }
  end)
end

-- The latest stored state, else an empty one. (yields)
local function latest(self, tenant, run_id)
  local row, err = projections_store.find(self.db, tenant, run_id)
  if row == nil then return nil, err end
  if not row or row.schema_version ~= projection.STORED_VERSION then
    return { seq = 0, state = projection.new(run_id) }
  end
  local state = projection.load(run_id, row.document, row.internal)
  if state == nil then return { seq = 0, state = projection.new(run_id) } end
  row.state, row.clock = state, session_clock.copy(state.clock)
  return row
end

-- The presentation with which a mode's view would be rendered today, nil when no mode reads the run. (yields)
local function current_presentation(self, tenant, run_id)
  local session, rev = aside.mode_of(self, tenant, run_id)
  if session == nil then return nil, rev end
  return session and rev and rev.presentation or false
end

-- A folded state as it is stored, with the mode's view of the same history. (yields)
local function complete(self, tenant, run_id, base, seq)
  local mode, err = view_at(self, tenant, run_id, base, seq)
  if mode == nil then return nil, err end
  if mode and mode.clock then base.state.clock = mode.clock end
  return {
    seq = seq, schema_version = projection.STORED_VERSION, document = projection.render(base.state),
    internal = projection.internal(base.state), mode_state = mode and mode.mode_state or nil,
    mode_view = mode and mode.view or nil, presentation = mode and mode.presentation or nil, at_ms = sys.now_ms(),
  }
end

---A state that was folded from the first event up to seq, as the row that stores it. (yields)
function Reader:complete(tenant, run_id, state, seq)
  return complete(self, tenant, run_id, { seq = 0, state = state }, seq)
end

-- A stored projection that is out of date is rebuilt and stored before it is shown. (yields)
local function refresh(self, tenant, run_id, tail_seq)
  local base, err = latest(self, tenant, run_id)
  if base == nil then return nil, err end
  local done, fold_err = history.fold(self.db, tenant, run_id, base.seq, tail_seq, base.state)
  if done == nil then return nil, fold_err end
  return complete(self, tenant, run_id, base, tail_seq)
end

-- The projection of a run that is not in memory. (yields)
local function stored_text(self, tenant, run_id)
  local row, err = projections_store.find(self.db, tenant, run_id)
  if row == nil then return nil, err end
  local tail, tail_err = events_store.tail(self.db, tenant, run_id)
  if tail == nil then return nil, tail_err end
  local exists, exists_err = runs_store.find(self.db, tenant, run_id)
  if exists == nil then return nil, exists_err end
  if not exists then return nil, errors.new("RUN_NOT_FOUND", nil, "run " .. run_id .. " not found") end
  local presentation, presentation_err = current_presentation(self, tenant, run_id)
  if presentation == nil then return nil, presentation_err end
  local fresh = row and row.schema_version == projection.STORED_VERSION and row.seq >= tail.seq
    and (not presentation or row.presentation == presentation)
  if fresh then return snapshot.join(row.document, row.mode_view), row.seq end
  local stored, refresh_err = refresh(self, tenant, run_id, tail.seq)
  if stored == nil then return nil, refresh_err end
  if exists.ended_at then
    local saved, save_err = projections_store.save(self.db, tenant, run_id, stored)
    if saved == nil then return nil, save_err end
  end
  return snapshot.join(stored.document, stored.mode_view), stored.seq
end

---Calls fn(rev, key) while the mode's session of a run is in memory as everything stored leaves it. fn may yield and must
---not raise. (yields)
---@param fn fun(rev: macp.modes.Revision, key: string): any, table|nil
---@return any the results of fn; false when no mode reads the run, nil and the error when the history cannot be read
function Reader:with_mode(tenant, run_id, fn)
  local base, err = latest(self, tenant, run_id)
  if base == nil then return nil, err end
  return beside(self, tenant, run_id, base, history.END, function(rev, key, clock)
    if clock == nil then return false end
    return fn(rev, key)
  end)
end

---The projection of a run as JSON text. (yields)
---@return string|nil json
---@return integer|table|nil seq, or the error
function Reader:state(tenant, run_id)
  local run = self.owner:get(tenant, run_id)
  if run then
    local text, seq, err = live_text(run)
    if text then return text, seq end
    if err then return nil, err end
  end
  return stored_text(self, tenant, run_id)
end

return M
