-- Recovery: runs that nobody alive owns are claimed, loaded and observed on from where their stored history ends. Done
-- at start, and again every few seconds, so that the runs of a process that died are taken over.

local log = require("host.log")
local task = require("host.task")

local repeats = require("macp.core.repeats")
local lifecycle = require("macp.plane.lifecycle")
local standing = require("macp.plane.standing")

local runs_store = require("macp.store.runs")

local repeated = repeats.new() -- failures that come again and again

local PARALLEL = 16
local LOOK_MS = 2500 -- one indexed question; the lease's 30 s and this are what a takeover may take

---@class macp.plane.Recovery
local Recovery = {}
Recovery.__index = Recovery

local M = {}

---@param opts { db: table, owner: table, launcher: table, metrics: table|nil,
---  observe: fun(run: macp.plane.Run) }
function M.new(opts)
  return setmetatable({
    db = opts.db, owner = opts.owner, launcher = opts.launcher, metrics = opts.metrics, observe = opts.observe,
  }, Recovery)
end

local function mode_name_of(run)
  local request = run.metadata and run.metadata.executionRequest
  return request and request.session and request.session.modeName or ""
end

---Goes on with a loaded run: observing it, or waiting for its session.
function Recovery:resume(run)
  if run.session == nil then
    if run.seq == 0 then lifecycle.created(run, { mode_name = mode_name_of(run) }, run.created_ms) end
    local request = run.metadata and run.metadata.executionRequest or { session = { modeName = "" } }
    self.launcher:launch(run, request)
    return
  end
  if run.status == "binding_session" then lifecycle.running(run) end
  standing.restored(run)
  lifecycle.recovered(run)
  self.observe(run)
end

-- Loads claimed rows, sixteen at a time. (yields)
local function restore_all(self, rows)
  local at, failed = 0, 0
  local function worker()
    while at < #rows do
      at = at + 1
      local row = rows[at]
      local run, err = self.owner:restore(row)
      if run == nil then
        failed = failed + 1
        repeated:tell("error", "recovery.failed", err and err.message, { run_id = row.id,
          error = err and err.message or tostring(err) })
      end
      if self.metrics then self.metrics.recovery:inc(run == nil and "failed" or "success") end
    end
    return true
  end
  local done, err = task.group(function(group)
    for _ = 1, math.min(PARALLEL, #rows) do group:spawn(worker) end
  end)
  if not done then return nil, err end
  return #rows - failed
end

---Claims and resumes everything that nobody owns, of all tenants. (yields)
---@return integer|nil resumed
---@return table|nil err
function Recovery:run()
  local rows, err = runs_store.claim_all(self.db, self.owner.name)
  if rows == nil then return nil, err end
  if #rows == 0 then return 0 end
  local count, restore_err = restore_all(self, rows)
  if count == nil then return nil, restore_err end
  log.info("recovery.done", { claimed = #rows, resumed = count })
  return count
end

---Looks for runs without an owner until the child is stopped. (yields)
---@param child macp.Child
function Recovery:work(child)
  while not child:stopping() do
    local resumed, err = self:run()
    if resumed == nil then return nil, err end
    local slept, sleep_err = task.sleep(LOOK_MS)
    if not slept then return nil, sleep_err end
  end
  return true
end

return M
