-- The end of a session as the control plane learns it: from WatchSessions, from GetSession, from a closing envelope. A
-- run is finished once every envelope the session accepted has been received, or a grace period has passed.

local sys = require("host.sys")
local task = require("host.task")

local errors = require("macp.core.errors")
local protocol = require("macp.protocol.lifecycle")
local binding = require("macp.plane.binding")
local lifecycle = require("macp.plane.lifecycle")

local GRACE_MS = 3000
-- When to ask after an envelope that may have closed the session (a watch usually tells earlier).
local ASK_AFTER_MS = { 50, 250, 1000 }

local STATUS = {
  SESSION_STATE_RESOLVED = "completed", SESSION_STATE_EXPIRED = "failed", SESSION_STATE_CANCELLED = "cancelled",
}

---@class macp.plane.Ending questions that are due later
local Ending = {}
Ending.__index = Ending

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

---@param client table runtime client
---@return macp.plane.Ending
function M.new(client)
  return setmetatable({ client = client, queue = {}, filled = task.cond(), running = {} }, Ending)
end

local function push(self, run, attempt)
  local delay = ASK_AFTER_MS[attempt]
  if delay == nil then return end
  local item = { run = run, attempt = attempt, due = sys.mono_ms() + delay }
  local queue = self.queue
  local at = #queue + 1
  while at > 1 and queue[at - 1].due > item.due do at = at - 1 end
  table.insert(queue, at, item)
  if at == 1 then self.filled:signal() end
end

---An envelope arrived that may have closed the session: ask soon.
function Ending:expect(run)
  if not run.asking then
    run.asking = true
    push(self, run, 1)
  end
end

-- Asks once; asks again later while the session goes on. (yields)
local function ask(self, item)
  local run = item.run
  if run.gone or run:has_ended() then return true end
  if M.check(run) then return true end
  if run.ending == nil then
    local metadata, err = self.client:get_session(run.session_id)
    if run.gone then return true end
    if metadata and protocol.is_terminal(metadata.state) then
      M.announce(run, metadata.state, binding.accepted_count(metadata))
    elseif err and errors.is(err, "CANCELLED") then
      return nil, err
    end
  end
  if not run:has_ended() and item.attempt < #ASK_AFTER_MS then push(self, run, item.attempt + 1)
  else run.asking = nil end
  return true
end

-- Runs whose announced envelopes do not come are finished when their grace is over.
function M.sweep(runs)
  for _, run in pairs(runs) do
    if run.ending then M.check(run) end
  end
end

---Asks the questions when they are due. (yields)
function Ending:work()
  while true do
    local item = self.queue[1]
    local left = item and item.due - sys.mono_ms()
    if item == nil or left > 0 then
      local _, err = self.filled:wait(item and math.max(1, left) or nil)
      if err and err.code == "CANCELLED" then return nil, err end
    else
      table.remove(self.queue, 1)
      local ok, err = ask(self, item)
      if not ok then return nil, err end
    end
  end
end

return M
