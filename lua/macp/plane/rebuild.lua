-- Rebuilding: projection, counters and statistics of a run, folded again from its first event. On demand for any run, and
-- in the background for finished runs whose state was stored under other rules (live ones are folded when loaded).

local log = require("host.log")
local sys = require("host.sys")
local task = require("host.task")

local errors = require("macp.core.errors")
local json = require("macp.core.json")
local time = require("macp.core.time")
local fold = require("macp.plane.projection.fold")
local history = require("macp.plane.history")
local projection = require("macp.plane.projection.state")
local run_metrics = require("macp.plane.run_metrics")
local run_stats = require("macp.plane.run_stats")
local snapshot = require("macp.plane.snapshot")

local db_door = require("macp.store.db")
local events_store = require("macp.store.events")
local metrics_store = require("macp.store.metrics")
local projections_store = require("macp.store.projections")
local runs_store = require("macp.store.runs")

local SHADOW_MAX = 100000 -- events that may come while a live run is rebuilt
local BATCH = 20
local BUSY_MS = 5000 -- after which to look again whether another process still rebuilds
local BEFORE_ALL = { tenant = "", run_id = "00000000-0000-0000-0000-000000000000" }

---@class macp.plane.Rebuilder
local Rebuilder = {}
Rebuilder.__index = Rebuilder

local M = {}

---@param deps { db: table, owner: table, reader: macp.plane.Reader, per_second: integer }
---@return macp.plane.Rebuilder
function M.new(deps)
  local self = setmetatable(deps, Rebuilder)
  self.progress = { running = false, total = 0, done = 0, failed = 0 }
  return self
end

-- Everything up to seq, folded from nothing: state, counters. (yields)
local function fold_all(self, tenant, run_id, seq)
  local state, metrics = projection.new(run_id), run_metrics.new()
  metrics.stats.replaces = true
  local done, err = history.fold(self.db, tenant, run_id, 0, seq, state, metrics)
  if done == nil then return nil, err end
  return state, metrics
end

-- Everything that is counted about a run, in the place of what is stored. (yields)
local function replace_counts(tx, tenant, run_id, seq, metrics)
  local done, err = metrics_store.replace(tx, tenant, run_id, metrics, run_metrics.duration_ms(metrics), sys.now_ms())
  if done == nil then return nil, err end
  local ops = {}
  local unit = { add = function(_, ...) ops[#ops + 1] = { n = select("#", ...), ... } end }
  run_stats.store(unit, { tenant = tenant, id = run_id, seq = seq, metrics = metrics })
  runs_store.add_totals(unit, tenant, run_id, metrics)
  for _, op in ipairs(ops) do
    done, err = db_door.exec(tx, unpack(op, 1, op.n))
    if done == nil then return nil, err end
  end
  return true
end

-- Applies what came meanwhile and exchanges the state; does not yield.
local function exchange(run, state, metrics, shadow)
  for _, document in ipairs(shadow) do
    local stored = json.decode(document)
    local event = fold.from_stored(stored)
    fold.apply(state, event)
    run_metrics.apply(metrics, event, time.parse_iso(stored.ts), state)
  end
  state.clock = run.state.clock -- it stands where the envelopes are, and follows no other rules
  run.state, run.metrics, run.rendered = state, metrics, nil
  run.writer.open:own(run).store = true
  run.checkpoint_seq = math.min(run.checkpoint_seq, run.seq - 1)
  run.writer:include(run)
end

-- A run that this process observes: folded up to now, then brought up with what came meanwhile. (yields)
local function rebuild_live(self, run)
  if run.shadow then
    return nil, errors.new("CONFLICT", nil, "the projection of run " .. run.id .. " is being rebuilt")
  end
  local shadow, from = {}, run.seq
  run.shadow = shadow
  local stored, err = run.writer:wait_stored(run, from)
  local state, metrics
  if stored then
    state, metrics = fold_all(self, run.tenant, run.id, from)
    if state == nil then err = metrics end
  end
  run.shadow = nil
  if state == nil then return nil, err end
  if run.gone then return false end
  if #shadow > SHADOW_MAX then
    return nil, errors.new("SERVICE_UNAVAILABLE", nil, "too much happens in run " .. run.id .. " to rebuild it now")
  end
  exchange(run, state, metrics, shadow)
  return true
end

-- What is stored of a finished run, computed again and written while its row is held. (yields)
local function rebuild_stored(self, tenant, run_id)
  return self.db:tx(function(tx)
    local row, err = projections_store.lock_run(tx, tenant, run_id)
    if row == nil then return nil, err end
    if not row then return nil, errors.new("RUN_NOT_FOUND", nil, "run " .. run_id .. " not found") end
    if not row.ended_at then
      return nil, errors.new("CONFLICT", nil, "run " .. run_id .. " is observed by another process")
    end
    local tail, tail_err = events_store.tail(tx, tenant, run_id)
    if tail == nil then return nil, tail_err end
    local state, metrics = fold_all(self, tenant, run_id, tail.seq)
    if state == nil then return nil, metrics end
    local stored, view_err = self.reader:complete(tenant, run_id, state, tail.seq)
    if stored == nil then return nil, view_err end
    local done, write_err = projections_store.replace(tx, tenant, run_id, stored)
    if done then done, write_err = replace_counts(tx, tenant, run_id, tail.seq, metrics) end
    if done == nil then return nil, write_err end
    return { seq = tail.seq, text = snapshot.join(stored.document, stored.mode_view) }
  end)
end

---Folds a run's projection and counters again from its first event and stores them. (yields)
---@return { seq: integer, text: string }|nil the last event in it, and the projection as JSON
---@return macp.Error|nil RUN_NOT_FOUND; CONFLICT: another process observes the run, or it is being rebuilt
function Rebuilder:run(tenant, run_id)
  local run = self.owner:get(tenant, run_id)
  if run then
    local done, err = rebuild_live(self, run)
    if done == nil then return nil, err end
    if done then
      local text, seq = self.reader:state(tenant, run_id)
      if text == nil then return nil, seq end
      return { seq = seq, text = text }
    end
  end
  return rebuild_stored(self, tenant, run_id)
end

-- Rebuilds one batch while no other process does; the rows go on after `self.after`. (yields)
---@return integer|false|nil how many runs were looked at; false: another process is at it
local function batch(self)
  return self.db:tx(function(tx)
    local lock, err = projections_store.try_lock(tx)
    if not lock then return nil, err end
    if not lock.locked then return false end
    local rows, rows_err = projections_store.stale(tx, self.after, projection.STORED_VERSION, BATCH)
    if rows == nil then return nil, rows_err end
    for _, row in ipairs(rows) do
      local slept, sleep_err = task.sleep(math.max(1, math.floor(1000 / self.per_second)))
      if not slept then return nil, sleep_err end
      local done, why = rebuild_stored(self, row.tenant, row.run_id)
      if done == nil and errors.is(why, "CANCELLED") then return nil, why end
      self.after = row
      local field = done and "done" or "failed"
      self.progress[field] = self.progress[field] + 1
      if done == nil then log.warn("projection.rebuild_failed", { run_id = row.run_id, error = why.message }) end
    end
    return #rows
  end)
end

---Rebuilds every finished run whose state was stored under other rules, once. What was rebuilt carries the new version,
---so a process that dies in the middle leaves only the rest. (yields)
function Rebuilder:work()
  local count, err = projections_store.count_stale(self.db, projection.STORED_VERSION)
  if not count then return nil, err end
  local progress = self.progress
  progress.total, self.after = count.n, BEFORE_ALL
  if count.n == 0 then return true end
  progress.running = true
  log.info("projection.rebuild_started", { runs = count.n })
  while true do
    local looked_at, batch_err = batch(self)
    if looked_at == nil then return nil, batch_err end
    if looked_at == 0 then break end
    if not looked_at then
      local slept, sleep_err = task.sleep(BUSY_MS)
      if not slept then return nil, sleep_err end
    end
  end
  progress.running = false
  log.info("projection.rebuild_ended", { done = progress.done, failed = progress.failed })
  return true
end

---How far the work in the background is: { running, total, done, failed }.
function Rebuilder:status() return self.progress end

return M
