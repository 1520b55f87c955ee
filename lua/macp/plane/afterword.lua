-- Events for a run that this process does not hold: mostly one that has ended. They are numbered behind the stored
-- history in one transaction that holds the run's row. A process that does observe the run notices that somebody else
-- wrote its next number and loads the run again.

local batches = require("macp.plane.batch")
local run_module = require("macp.plane.run")
local runs = require("macp.plane.runs")

local db_door = require("macp.store.db")
local events_store = require("macp.store.events")
local metrics_store = require("macp.store.metrics")
local runs_store = require("macp.store.runs")

local M = {}

-- A run object whose events go into one batch and nowhere else.
local function detached(row, tenant, tail)
  local batch = batches.new()
  local writer = { owner = {}, open_for = function(_, run)
    batch:own(run)
    return batch
  end }
  local run = run_module.new({ tenant = tenant, id = row.id, session_id = row.runtime_session_id,
    kind = row.runtime_kind, status = row.status, trace_id = row.trace_id, created_ms = row.created_at,
    started_ms = row.started_at }, writer)
  run.seq = tail.seq
  return run, batch
end

---Writes what fn(run) emits. The projection follows when it is next read.
---@param fn fun(run: macp.plane.Run) adds rows and events; must not yield
---@return true|nil
---@return table|nil err RUN_NOT_FOUND
---(yields)
function M.write(db, tenant, run_id, fn)
  return db_door.tx(db, function(tx)
    local locked, err = runs_store.lock(tx, tenant, run_id)
    if locked == nil then return nil, err end
    if not locked then return nil, runs.not_found(run_id) end
    local row, find_err = runs_store.find(tx, tenant, run_id)
    if not row then return nil, find_err end
    local tail, tail_err = events_store.tail(tx, tenant, run_id)
    if tail == nil then return nil, tail_err end
    local run, batch = detached(row, tenant, tail)
    fn(run)
    metrics_store.add_events(batch, tenant, run_id, run.seq - tail.seq)
    runs_store.add_last_seq(batch, tenant, run_id, run.seq)
    for _, op in ipairs(batch.ops) do
      local count, exec_err = db_door.exec(tx, op[1], unpack(op, 3, op[2] + 2))
      if count == nil then return nil, exec_err end
    end
    return true
  end)
end

return M
