-- Suspending and resuming a run: the runtime is asked, and when it agrees the run follows.

local task = require("host.task")

local errors = require("macp.core.errors")
local lifecycle = require("macp.plane.lifecycle")
local standing = require("macp.plane.standing")

local runs_store = require("macp.store.runs")

local FOREIGN_WAIT_MS = 5000
local FOREIGN_POLL_MS = 100

local CHANGES = {
  suspend = { from = "running", to = "suspended", call = "suspend_session", state = "SESSION_STATE_SUSPENDED",
    reason = "suspended by control plane", refusal = "only running runs can be suspended (current status: %s)" },
  resume = { from = "suspended", to = "running", call = "resume_session", state = "SESSION_STATE_OPEN",
    reason = "resumed by control plane", refusal = "only suspended runs can be resumed (current status: %s)" },
}

local M = {}

-- Another process observes the run and follows by itself, unless the run has ended meanwhile. (yields)
local function await_status(deps, tenant, run_id, status)
  local waited = 0
  while true do
    local row, err = runs_store.find(deps.db, tenant, run_id)
    if not row then return row, err end
    if row.ended_at then return nil, lifecycle.forbidden(run_id, row.status, status) end
    if row.status == status or waited >= FOREIGN_WAIT_MS then return row end
    local slept, sleep_err = task.sleep(FOREIGN_POLL_MS)
    if not slept then return nil, sleep_err end
    waited = waited + FOREIGN_POLL_MS
  end
end

-- The runtime has agreed: the run follows, unless something later is known already. A run that has ended by now stays
-- so. (yields)
local function follow(deps, run, change, ack, asked)
  if run:has_ended() then return nil, lifecycle.forbidden(run.id, run.status, change.to) end
  local at_ms = tonumber(ack.accepted_at_unix_ms) or 0
  local told = { state = change.state, at_ms = at_ms > 0 and at_ms or nil, asked = asked }
  if not standing.hear(run, told) then deps.questions:expect(run) end
  -- The watch of sessions may have told first: what it changed is waited for as well.
  return run.writer:wait_stored(run, run.seq)
end

---Suspends or resumes a run and returns its row, false when it was deleted meanwhile. (yields)
---@param deps { db: table, owner: table, client: table, questions: macp.plane.Questions }
---@param row table of store/runs.lua
---@param what "suspend"|"resume"
---@param reason string|nil told to the runtime
---@return table|false|nil row
---@return macp.Error|nil err VALIDATION_ERROR in a wrong status, INVALID_STATE_TRANSITION when the run ends meanwhile, or
--- what the runtime says
function M.change(deps, tenant, row, what, reason)
  local change = CHANGES[what]
  local live = deps.owner:get(tenant, row.id)
  local status = live and live.status or row.status
  if status ~= change.from then
    return nil, errors.new("VALIDATION_ERROR", nil, change.refusal:format(status))
  end
  local run, claim_err = deps.owner:adopt(tenant, row.id)
  if run == nil then return nil, claim_err end
  local asked = standing.moment()
  local ack, ask_err = deps.client[change.call](deps.client, row.runtime_session_id, reason or change.reason)
  if ack == nil then return nil, ask_err end
  if not run then return await_status(deps, tenant, row.id, change.to) end
  local stored, stored_err = follow(deps, run, change, ack, asked)
  if not stored and stored_err.code == "LOST" then return await_status(deps, tenant, row.id, change.to) end
  if not stored then return nil, stored_err end
  return runs_store.find(deps.db, tenant, row.id)
end

return M
