-- The owner: which runs this process holds in memory. Runs enter when they are created, discovered, recovered or taken
-- over, and leave when they have ended or were lost. What was stored is handed on to the hub from here.

local log = require("host.log")
local task = require("host.task")

local errors = require("macp.core.errors")
local repeats = require("macp.core.repeats")
local loader = require("macp.plane.loader")
local snapshot = require("macp.plane.snapshot")

local runs_store = require("macp.store.runs")

local repeated = repeats.new() -- failures that come again and again

---@class macp.plane.Owner
local Owner = {}
Owner.__index = Owner

local M = {}

---@param opts { db: table, name: string, registry: table|nil, hub: table, supervisor: table,
---  tracer: macp.Tracer|nil }
--- name: the owner's name in runs.lease_owner
function M.new(opts)
  return setmetatable({
    db = opts.db, name = opts.name, registry = opts.registry, hub = opts.hub,
    supervisor = opts.supervisor, tracer = opts.tracer, runs = {}, sessions = {}, count = 0, loading = {},
    announced = {}, announced_sessions = {}, -- runs that wait and were not wanted yet: macp.plane.Announced
    writers = nil, resume = nil, on_ended = nil, on_added = nil, -- set once those parts exist
  }, Owner)
end

-- The run with this id, whosever it is.
local function find(self, run_id)
  return self.runs[run_id] or self.announced[run_id] and self:whole(self.announced[run_id])
end

---The run with this id, if it is held here and the tenant's.
---@param tenant string
---@param run_id string
function Owner:get(tenant, run_id)
  local found = self.runs[run_id] or self.announced[run_id]
  if found == nil or found.tenant ~= tenant then return nil end
  return self.runs[run_id] or self:whole(found)
end

---The last stored number of a run that is held here, nil when it is not or is another tenant's. Costs less than `get`.
---@return integer|nil
function Owner:stored_seq(tenant, run_id)
  local found = self.runs[run_id] or self.announced[run_id]
  if found == nil or found.tenant ~= tenant then return nil end
  return found.committed_seq or found.seq
end

---The run of this session, whosever it is, if it is held here.
function Owner:of_session(session_id)
  local run = self.sessions[session_id]
  if run then return run end
  local waiting = self.announced_sessions[session_id]
  return waiting and self:whole(waiting)
end

-- Keeps the revision that reads a run in memory as long as the run is.
local function pin(self, run)
  if run.rev and run.pinned == nil then
    self.registry:pin(run.rev)
    run.pinned = run.rev
  end
end

---Takes a run into memory.
function Owner:add(run)
  if self.runs[run.id] == nil then self.count = self.count + 1 end
  self.runs[run.id] = run
  if run.session_id then self.sessions[run.session_id] = run end
  pin(self, run)
  self.hub:attach(run)
  if self.on_added then self.on_added() end
end

---Holds a run that waits for its session, in little memory until it is wanted.
---@param waiting macp.plane.Announced
---@return boolean held false: the run is here already, somebody has loaded it
function Owner:expect(waiting)
  if self.runs[waiting.id] then return false end
  self.announced[waiting.id], self.announced_sessions[waiting.session_id] = waiting, waiting
  self.count = self.count + 1
  if self.on_added then self.on_added() end
  return true
end

local function drop_announced(self, waiting)
  self.announced[waiting.id] = nil
  if self.announced_sessions[waiting.session_id] == waiting then
    self.announced_sessions[waiting.session_id] = nil
  end
  self.count = self.count - 1
end

---The run that an announced one becomes when it is wanted; nil when it is not held any more.
---@param waiting macp.plane.Announced|macp.plane.Run
---@return macp.plane.Run|nil
function Owner:whole(waiting)
  if waiting.became then return waiting.became end
  if self.announced[waiting.id] ~= waiting then return self.runs[waiting.id] == waiting and waiting or nil end
  drop_announced(self, waiting)
  local run = waiting:run(self.writers:of(waiting.id))
  self:add(run)
  return run
end

-- Takes a run out of memory.
local function remove(self, run)
  if self.runs[run.id] ~= run then return end
  self.runs[run.id] = nil
  self.count = self.count - 1
  if self.sessions[run.session_id] == run then self.sessions[run.session_id] = nil end
  if run.stream then run.stream:cancel() end
  run:release()
  if run.pinned then self.registry:unpin(run.pinned) end
  run.pinned = nil
end

---Binds a run to its session and pins the revision that reads it.
function Owner:bind(run, session, rev)
  run:bind(session, rev)
  pin(self, run)
end

-- The projection that was asked for is stored now.
local function keep_text(entry)
  local run = entry.run
  if entry.text then run.stored_text, run.stored_text_seq = entry.text, entry.text_seq end
end

---After a commit, for each run in it, in order.
function Owner:on_commit(entry)
  local run = entry.run
  keep_text(entry)
  if entry.n > 0 then run.event_seq = entry.seqs[entry.n] end
  self.hub:publish(entry)
  if run:has_ended() and run.committed_seq == run.seq and not run.gone then
    if self.hub:has_listeners(run.id) then self.hub:finish(run.id, snapshot.text(run), run.seq) end
    run.gone = "ended"
    remove(self, run)
    if self.on_ended then self.on_ended(run) end
  end
end

---A run whose events could not be stored: it leaves memory and, unless somebody else has it, is loaded again.
function Owner:on_lost(run, why)
  repeated:tell("warn", "run.given_up", why, { run_id = run.id, trace_id = run.trace_id, why = why })
  if self.runs[run.id] == run then self.hub:detach(run.id) end
  if self.announced[run.id] == run then drop_announced(self, run) end
  remove(self, run)
  local skip = run.skip
  self.supervisor:start("reload." .. run.id, function() return self:adopt(run.tenant, run.id, skip) end,
    { restart = "on_error", backoff_ms = 200, max_backoff_ms = 5000 })
end

---Another process has taken this run over: it leaves memory here.
function Owner:lose(run_id)
  local waiting = self.announced[run_id]
  if waiting then
    log.warn("run.taken_over", { run_id = run_id })
    waiting.gone = "lost"
    self.writers:of(run_id):drop(waiting)
    return drop_announced(self, waiting)
  end
  local run = self.runs[run_id]
  if run == nil then return end
  log.warn("run.taken_over", { run_id = run_id })
  run.gone = "lost"
  run.writer:drop(run)
  self.hub:detach(run_id)
  remove(self, run)
end

---Claims a run, loads it and goes on observing it. (yields)
---@param tenant string
---@param run_id string
---@param skip table|nil ordinals that cannot be stored in full
---@return macp.plane.Run|false|nil false: another process owns it, or it has ended
---@return table|nil err
function Owner:adopt(tenant, run_id, skip)
  local held = self:get(tenant, run_id)
  if held then return held end
  local row, err = runs_store.claim(self.db, tenant, self.name, run_id)
  if not row then return row, err end
  return self:restore(row, skip)
end

-- Somebody loads the run already: what came of it. (yields)
local function await_loading(self, run_id)
  local ok, err = self.loading[run_id]:wait()
  if not ok then return nil, err end
  return find(self, run_id) or false
end

local function load_and_resume(self, row, skip)
  local run, err = loader.load(self, row)
  local faster = find(self, row.id)
  if faster then return faster end -- whoever created it
  if run == nil then return nil, err end
  run.skip = skip
  self:add(run)
  self.resume(run)
  return run
end

---Loads a claimed run and goes on with it: `resume`, set by whoever starts the parts, knows how. (yields)
function Owner:restore(row, skip)
  if self.loading[row.id] then return await_loading(self, row.id) end
  local there = find(self, row.id)
  if there then return there end
  local loaded = task.cond()
  self.loading[row.id] = loaded
  local ok, run, err = xpcall(load_and_resume, debug.traceback, self, row, skip)
  self.loading[row.id] = nil
  loaded:broadcast() -- who waits goes on after this function has yielded or returned
  if not ok then
    if self.runs[row.id] then self:lose(row.id) end -- nobody observes it
    run, err = nil, errors.new("INTERNAL_ERROR", nil, "load run " .. row.id .. ": " .. tostring(run))
  end
  if run == nil then
    runs_store.release(self.db, row.tenant, self.name, row.id) -- the next look for runs without an owner tries again
    return nil, err
  end
  return run
end

return M
