-- Cancelling a run: by its policy the runtime is asked, else the initiator's callback; then the run is closed. Nobody
-- could say how a discovered run is cancelled: the runtime of this process ends its session, another one decides.

local fetch = require("host.fetch")
local sys = require("host.sys")
local task = require("host.task")

local errors = require("macp.core.errors")
local json = require("macp.core.json")
local lifecycle = require("macp.plane.lifecycle")
local partial_reply = require("macp.plane.partial_reply")

local runs_store = require("macp.store.runs")

local DISCOVERED = "session-discovery" -- source of runs that nobody announced
local OURSELVES = "macp-control-plane"
local BY_US = "cancelled by control plane"
local FOREIGN_WAIT_MS = 5000
local FOREIGN_POLL_MS = 200

local M = {}

-- Option A: the initiator's own endpoint. (yields)
local function call_back(deps, run_id, callback, reason)
  local headers = { ["content-type"] = "application/json" }
  if callback.bearer then headers.authorization = "Bearer " .. callback.bearer end
  local began = sys.mono_ms()
  local reply, err = fetch.open({
    url = callback.url, method = "POST", headers = headers, timeout_ms = deps.callback_timeout_ms,
    body = json.encode({ runId = run_id, reason = reason or json.null }),
    guard = deps.allow_private and "any" or "public", allow_hosts = deps.allow_hosts,
  })
  local problem
  if reply then partial_reply.take(reply, deps.callback_timeout_ms - (sys.mono_ms() - began), 0) end
  if reply == nil then problem = err.message
  elseif reply.status < 200 or reply.status > 299 then problem = "the callback answered " .. reply.status end
  if problem == nil then return true end
  local failure = errors.new("INTERNAL_ERROR", nil, "cancel callback failed: " .. problem)
  failure.http = 502
  return nil, failure
end

local function not_cancellable(row, why)
  return nil, errors.new("VALIDATION_ERROR", nil, "run " .. row.id .. " has no cancelCallback and " .. why)
end

-- A run that was discovered. (yields)
local function end_discovered(deps, row, reason, force)
  local done, err
  if deps.own_runtime then
    done, err = deps.own_runtime:cancel_session(row.runtime_session_id, OURSELVES, reason or BY_US)
  end
  if done or err then return done or nil, err end
  done, err = deps.client:cancel_session(row.runtime_session_id, reason or BY_US)
  if done or force then return true end
  if errors.is(err, "FORBIDDEN") then
    return not_cancellable(row, "the policy of its session does not let the control plane cancel it")
  end
  return nil, err
end

-- Asks whoever can end the session. (yields)
local function request_end(deps, row, how, reason, force)
  if how.delegated_cancel then
    local ack, err = deps.client:cancel_session(row.runtime_session_id, reason or BY_US)
    if ack == nil and not force then return nil, err end
    return true
  end
  local callback = how.cancel_callback and json.decode(how.cancel_callback)
  if callback == nil and row.source_kind == DISCOVERED then return end_discovered(deps, row, reason, force) end
  if callback == nil then
    return not_cancellable(row, "its policy does not delegate cancellation to the control plane")
  end
  return call_back(deps, row.id, callback, reason)
end

-- The run belongs to another process, which sees the session end by itself. (yields)
local function await_end(deps, tenant, run_id)
  local waited = 0
  while waited < FOREIGN_WAIT_MS do
    local row, err = runs_store.find(deps.db, tenant, run_id)
    if not row then return row, err end
    if row.ended_at then return row end
    local slept, sleep_err = task.sleep(FOREIGN_POLL_MS)
    if not slept then return nil, sleep_err end
    waited = waited + FOREIGN_POLL_MS
  end
  return runs_store.find(deps.db, tenant, run_id)
end

---Cancels a run and returns its row, and true when it had ended before: then there was nothing to do. (yields)
---@param deps { db: table, owner: table, client: table, callback_timeout_ms: integer, allow_private: boolean,
---  allow_hosts: string[], own_runtime: table|nil } own_runtime: the runtime that this process serves
---@param row table of store/runs.lua
---@param opts { reason: string|nil, force: boolean|nil }
function M.cancel(deps, tenant, row, opts)
  if row.ended_at then return row, true end
  if not row.runtime_session_id then
    return nil, errors.new("VALIDATION_ERROR", nil, "run has no bound runtime session")
  end
  local how, find_err = runs_store.find_cancellation(deps.db, tenant, row.id)
  if not how then return nil, find_err or errors.new("RUN_NOT_FOUND", nil, "run " .. row.id .. " not found") end
  local run, claim_err = deps.owner:adopt(tenant, row.id)
  if run == nil then return nil, claim_err end
  local asked, ask_err = request_end(deps, row, how, opts.reason, opts.force)
  if not asked then return nil, ask_err end
  if not run then return await_end(deps, tenant, row.id) end
  lifecycle.finish(run, "cancelled")
  local stored, stored_err = run.writer:wait_stored(run, run.seq)
  if not stored and stored_err.code ~= "LOST" then return nil, stored_err end
  return runs_store.find(deps.db, tenant, row.id)
end

return M
