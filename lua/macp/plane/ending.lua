-- The end of a session as the control plane learns it: from WatchSessions, from GetSession, from a closing envelope. A
-- run is finished once every envelope the session accepted has been received, or a grace period has passed.

local sys = require("host.sys")

local protocol = require("macp.protocol.lifecycle")
local lifecycle = require("macp.plane.lifecycle")

local GRACE_MS = 3000

local STATUS = {
  SESSION_STATE_RESOLVED = "completed", SESSION_STATE_EXPIRED = "failed", SESSION_STATE_CANCELLED = "cancelled",
}

local M = {}

local function name_of(state)
  return type(state) == "number" and protocol.NAMES[state] or state
end

local function finish(run, state)
  local reason
  if state == "SESSION_STATE_EXPIRED" then
    reason = { code = "SESSION_EXPIRED", message = "runtime session expired" }
  end
  lifecycle.finish(run, STATUS[state], reason, state)
end

---Finishes the run if its announced end is reached.
---@return boolean finished
function M.check(run)
  local announced = run.ending
  if announced == nil or run:has_ended() or run.gone then return false end
  if run.cursor < announced.accepted and sys.mono_ms() < announced.deadline then return false end
  finish(run, announced.state)
  return true
end

---The runtime says that the session is in a terminal state after so many accepted envelopes.
---@param accepted integer
function M.announce(run, state, accepted)
  state = name_of(state)
  if STATUS[state] == nil or run:has_ended() or run.gone then return end
  if run.ending == nil then
    run.ending = { state = state, accepted = accepted, deadline = sys.mono_ms() + GRACE_MS }
  else
    run.ending.state, run.ending.accepted = state, math.max(accepted, run.ending.accepted)
  end
  M.check(run)
end

---Ends the run as failed.
function M.fail(run, code, message)
  if run.gone then return end
  lifecycle.finish(run, "failed", { code = code, message = message })
end

-- Runs whose announced envelopes do not come are finished when their grace is over.
function M.sweep(runs)
  for _, run in pairs(runs) do
    if run.ending then M.check(run) end
  end
end

return M
