-- Writers: two queues of batches, each committed on a database connection of its own; a run always uses the same one,
-- so its events are stored in their order. A batch is what arrived while the previous commit was in flight. Nothing is
-- published before it is stored.

local sys = require("host.sys")
local task = require("host.task")

local backoff = require("macp.core.backoff")
local repeats = require("macp.core.repeats")
local errors = require("macp.core.errors")
local fault = require("macp.core.fault")
local batches = require("macp.plane.batch")
local fence = require("macp.plane.fence")
local run_trace = require("macp.plane.run_trace")
local snapshot = require("macp.plane.snapshot")
local verdict = require("macp.plane.writer_verdict")

local repeated = repeats.new({ lines = 3 }) -- failures that come again and again

local MAX_EVENTS = 512
local MAX_BYTES = 1048576
local MAX_STATE_BYTES = 262144 -- of states that could as well be stored a moment later: a few ms of work
local QUIET_MS = 1000
local STATE_BYTES_PER_QUIET_MS = 100 -- a large state is stored after a longer silence
local SWEEP_MS = 250
local STORED_WAIT_MS = 8000 -- whoever waits for a change is told after this time that it is not stored yet

---@class macp.plane.Writer one queue
local Writer = {}
Writer.__index = Writer

---@class macp.plane.Writers
local Writers = {}
Writers.__index = Writers

local M = { SLOTS = 2 }

local function new_writer(owner, slot)
  return setmetatable({
    owner = owner, slot = slot, open = batches.new(), busy = false, filled = task.cond(), room = task.cond(),
    committed = task.cond(), dirty = {},
  }, Writer)
end

---@param opts { pool: table, name: string, on_commit: fun(entry: table),
---  on_lost: fun(run: macp.plane.Run, why: string), announce: table|nil, metrics: table|nil,
---  prices: macp.plane.Prices|nil, redactor: macp.plane.Redactor|false|nil,
---  tracer: macp.Tracer|nil, milestone_bytes: integer|nil }
--- milestone_bytes: of the states of the past that a run may have stored, nil: any number.
--- name: this process as the owner of runs. on_commit runs for every run of a stored batch, in order, and must not
--- yield. announce tells other processes, see plane/announce/init.lua
---@return macp.plane.Writers
function M.new(opts)
  local self = setmetatable({
    pool = opts.pool, name = opts.name, on_commit = opts.on_commit, on_lost = opts.on_lost, metrics = opts.metrics,
    stopping = false, announce = opts.announce, prices = opts.prices, redactor = opts.redactor, writers = {},
    milestone_bytes = opts.milestone_bytes or math.huge, failing_since = nil,
    tracer = opts.tracer and opts.tracer.is_on and opts.tracer or nil,
  }, Writers)
  for slot = 1, M.SLOTS do self.writers[slot] = new_writer(self, slot) end
  return self
end

---The writer of a run.
function Writers:of(run_id)
  return self.writers[tonumber(run_id:sub(-6), 16) % M.SLOTS + 1]
end

---The open batch, with `run` as owner of what is added next.
---@param ordinal integer|nil
function Writer:open_for(run, ordinal)
  local batch = self.open
  if ordinal or batch.run ~= run or batch.by_run[run] == nil then
    batch:own(run, ordinal or (batch.run == run and batch.ordinal or nil))
  end
  self.dirty[run] = true
  if not self.busy then self.filled:signal() end
  return batch
end

---Makes sure the run is part of the next commit, e.g. to have its state rendered or stored.
function Writer:include(run)
  self.open:own(run)
  if not self.busy then self.filled:signal() end
end

---Waits until the open batch has room for another chunk. (yields)
---@return true|nil
---@return table|nil err CANCELLED
function Writer:wait_room()
  while self.open.count >= MAX_EVENTS or self.open.bytes >= MAX_BYTES do
    local ok, err = self.room:wait()
    if not ok then return nil, err end
  end
  return true
end

---Waits until the run's events up to seq are stored, but not for ever: a database that is away stores nothing. (yields)
---@return true|nil
---@return table|nil err LOST: they never will be; SERVICE_UNAVAILABLE: not yet, and they are still tried; CANCELLED
function Writer:wait_stored(run, seq)
  local deadline = sys.mono_ms() + STORED_WAIT_MS
  while run.committed_seq < seq do
    if run.gone then return nil, { code = "LOST", message = "the run is no longer owned here" } end
    local left = deadline - sys.mono_ms()
    if left <= 0 then
      return nil, errors.new("SERVICE_UNAVAILABLE", nil, "the change is not stored yet: the database does not answer")
    end
    local ok, err = self.committed:wait(math.ceil(left))
    if not ok and err.code ~= "TIMEOUT" then return nil, err end
  end
  return true
end

-- Closes the open batch: states that are due go into it, and texts that somebody waits for are rendered, because only
-- now the folded state is exactly what this batch stores.
local function seal(self)
  local batch = self.open
  self.open = batches.new()
  local now_ms, spent = sys.now_ms(), 0
  local runs = batch.runs
  for i = 1, #runs do
    local run = runs[i].run
    if run.state and not run.gone then -- one that is announced has none yet
      local due = run:has_ended() or snapshot.is_due(run)
      if run.seq > run.checkpoint_seq and (due or runs[i].store) then
        if due or spent < MAX_STATE_BYTES then
          snapshot.add(batch, run, now_ms)
          spent = spent + run.stored_bytes
          self.dirty[run] = nil
        else
          self.open:own(run).store = true -- many fell silent at once: one batch does not take them all
        end
      elseif spent < MAX_STATE_BYTES and snapshot.milestone_is_due(run) then
        spent = spent + snapshot.add_milestone(batch, run)
      end
      if run.wants_render then
        run.wants_render = false
        runs[i].text, runs[i].text_seq = snapshot.text(run), run.seq
      end
    end
  end
  return batch
end

local function publish(self, batch, began_ms)
  local owner = self.owner
  local tracer, stored_ms = owner.tracer, sys.now_ms()
  for _, entry in ipairs(batch.runs) do
    local run = entry.run
    if not run.gone then
      if entry.last_seq > run.committed_seq then run.committed_seq = entry.last_seq end
      owner.on_commit(entry)
      if tracer and run.span then run_trace.stored_batch(tracer, entry, began_ms, stored_ms) end
    end
  end
  if owner.announce then owner.announce:stored(batch) end
  self.committed:broadcast()
end

-- Takes a run out of this batch and of the open one; it will be loaded again from what is stored.
local function give_up(self, batch, run, why)
  batch:remove(run)
  self.open:remove(run)
  self.dirty[run] = nil
  run.gone = why
  self.owner.on_lost(run, why)
end

local function commit_once(self, batch)
  if #batch.ops == 0 then return true end
  -- One unit for all batches: its buffers are large, and the collector would see only small objects.
  local unit = self.unit or self.owner.pool:unit()
  self.unit = unit
  unit:clear()
  local filled, err = batch:fill(unit)
  if filled then filled, err = fence.add(unit, self.owner.name, batch) end
  if filled and self.owner.announce then filled, err = self.owner.announce:add(unit, batch) end
  if not filled then return nil, err end
  return unit:commit_on(self.slot)
end

-- Commits a batch, whatever it takes: what cannot be stored is taken out, the rest is tried again. (yields)
local function commit(self, batch)
  local delays = backoff.new({ base_ms = 50, max_ms = 2000 })
  while true do
    fault("ingest.before_commit")
    local ok, err = commit_once(self, batch)
    fault("ingest.committed")
    if ok then break end
    if err.code == "CANCELLED" then return nil, err end
    self.owner.failing_since = self.owner.failing_since or sys.mono_ms()
    repeated:tell("warn", "ingest.commit_failed", err.sqlstate or err.code, { slot = self.slot,
      events = batch.count, code = err.code, sqlstate = err.sqlstate, error = err.message })
    local judged = verdict.of(self.owner.pool, self.owner.name, batch, err)
    if judged.stored then break end
    for _, item in ipairs(judged.lost) do
      if item.ordinal then
        item.run.skip = item.run.skip or {}
        item.run.skip[item.ordinal] = true
      end
      give_up(self, batch, item.run, item.why)
    end
    if #judged.lost == 0 then
      local slept, sleep_err = task.sleep(delays:next())
      if not slept then return nil, sleep_err end
    end
  end
  self.owner.failing_since = nil
  return true
end

-- The life of one writer. (yields)
function Writer:work()
  while true do
    if self.open:is_empty() then
      if self.owner.stopping then return true end
      self.busy = false
      local ok, err = self.filled:wait()
      if not ok then return nil, err end
    else
      self.busy = true
      local batch = seal(self)
      self.sealed = batch
      self.room:broadcast()
      local began, began_ms = sys.mono_ms(), sys.now_ms()
      local ok, err = commit(self, batch)
      if not ok then return nil, err end
      if self.owner.metrics then self.owner.metrics.on_batch(batch, sys.mono_ms() - began) end
      self.sealed = nil
      publish(self, batch, began_ms)
      fault("ingest.published")
    end
  end
end

-- A last event in the future is one from before the clock was set back.
local function is_quiet(run, now_ms)
  local silent_ms = now_ms - run.last_event_ms
  return silent_ms < 0 or silent_ms >= QUIET_MS + run.stored_bytes / STATE_BYTES_PER_QUIET_MS
end

-- Runs that fell silent get their state stored: called every quarter of a second.
function Writer:sweep()
  local now_ms = sys.now_ms()
  for run in pairs(self.dirty) do
    if run.gone or run.seq <= run.checkpoint_seq then
      self.dirty[run] = nil
    elseif is_quiet(run, now_ms) then
      self.open:own(run).store = true
      self.filled:signal()
    end
  end
end

---What of a run is not stored yet becomes that of a run which was made of it.
function Writer:rename(run, heir)
  if self.sealed then self.sealed:rename(run, heir) end
  self.open:rename(run, heir)
  if self.dirty[run] then self.dirty[run], self.dirty[heir] = nil, true end
end

---Forgets what of a run is not stored: it belongs to another process now.
function Writer:drop(run)
  self.open:remove(run)
  self.dirty[run] = nil
  self.committed:broadcast() -- whoever waits for it
end

---Starts the writers under a supervisor.
function Writers:start(supervisor)
  for _, writer in ipairs(self.writers) do
    supervisor:start("writer." .. writer.slot, function() return writer:work() end, { restart = "never",
      stop = function() self:stop() end })
  end
  self.sweeper = task.every(SWEEP_MS, function()
    for _, writer in ipairs(self.writers) do writer:sweep() end
  end)
end

---Lets the writers end once everything is stored; what is dirty is stored too.
function Writers:stop()
  if self.stopping then return end
  self.stopping = true
  if self.sweeper then self.sweeper:stop() end
  for _, writer in ipairs(self.writers) do
    for run in pairs(writer.dirty) do
      if not run.gone and run.seq > run.checkpoint_seq then writer.open:own(run).store = true end
    end
    writer.filled:signal()
    writer.room:broadcast()
  end
end

---Events that wait to be stored.
function Writers:depth()
  local depth = 0
  for _, writer in ipairs(self.writers) do depth = depth + writer.open.count end
  return depth
end

return M
