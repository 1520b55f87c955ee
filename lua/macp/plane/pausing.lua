-- Suspending and resuming a run: the runtime is asked, and when it agrees the run follows.

local task = require("host.task")

local errors = require("macp.core.errors")
local lifecycle = require("macp.plane.lifecycle")

local runs_store = require("macp.store.runs")

local FOREIGN_WAIT_MS = 5000
local FOREIGN_POLL_MS = 100

local CHANGES = {
  suspend = { from = "running", to = "suspended", call = "suspend_session", enter = lifecycle.suspended,
    reason = "suspended by control plane", refusal = "only running runs can be suspended (current status: %s)" },
  resume = { from = "suspended", to = "running", call = "resume_session", enter = lifecycle.running,
    reason = "resumed by control plane", refusal = "only suspended runs can be resumed (current status: %s)" },
}

local M = {}

-- Another process observes the run and follows by itself. (yields)
local function await_status(deps, tenant, run_id, status)
  local waited = 0
  while true do
    local row, err = runs_store.find(deps.db, tenant, run_id)
    if not row then return row, err end
    if row.status == status or row.ended_at or waited >= FOREIGN_WAIT_MS then return row end
    local slept, sleep_err = task.sleep(FOREIGN_POLL_MS)
    if not slept then return nil, sleep_err end
    waited = waited + FOREIGN_POLL_MS
  end
end

---Suspends or resumes a run and returns its row, false when it was deleted meanwhile. (yields)
---@param deps { db: table, owner: table, client: table }
---@param row table of store/runs.lua
---@param what "suspend"|"resume"
---@param reason string|nil told to the runtime
---@return table|false|nil row
---@return macp.Error|nil err VALIDATION_ERROR in a wrong status, or what the runtime says
function M.change(deps, tenant, row, what, reason)
  local change = CHANGES[what]
  local live = deps.owner:get(row.id)
  local status = live and live.status or row.status
  if status ~= change.from then
    return nil, errors.new("VALIDATION_ERROR", nil, change.refusal:format(status))
  end
  local run, claim_err = deps.owner:adopt(row.id)
  if run == nil then return nil, claim_err end
  local ack, ask_err = deps.client[change.call](deps.client, row.runtime_session_id, reason or change.reason)
  if ack == nil then return nil, ask_err end
  if not run then return await_status(deps, tenant, row.id, change.to) end
  -- The watch of sessions may have told first, or the session may have ended: then there is nothing to change.
  if not run.gone and run.status == change.from then
    change.enter(run)
    local stored, stored_err = run.writer:wait_stored(run, run.seq)
    if not stored and stored_err.code ~= "LOST" then return nil, stored_err end
  end
  return runs_store.find(deps.db, tenant, row.id)
end

return M
