-- Small chores on runs in memory: announced ends whose envelopes do not come, streams that have been silent for long.

local sys = require("host.sys")
local task = require("host.task")

local ending = require("macp.plane.ending")
local observer = require("macp.plane.observer")

local EVERY_MS = 500

local M = {}

-- A silent session may have ended unnoticed; the stream stays as it is.
local function ask_about_silent(role, idle_ms)
  local now_ms, mono_ms = sys.now_ms(), sys.mono_ms()
  for _, run in pairs(role.owner.runs) do
    -- Far in the future is as silent: the clock was set back.
    local is_silent = run.last_event_ms > 0 and math.abs(now_ms - run.last_event_ms) >= idle_ms
    if run.session and is_silent and (run.asked_ms == nil or mono_ms - run.asked_ms >= idle_ms) then
      run.asked_ms = mono_ms
      role.questions:expect(run)
    end
  end
end

---(yields until the child is stopped)
---@param role table owner, questions
---@param idle_ms integer
function M.work(role, child, idle_ms)
  local rounds, per_idle = 0, math.max(1, math.floor(math.min(idle_ms, 10000) / EVERY_MS / 2))
  while not child:stopping() do
    local slept, err = task.sleep(EVERY_MS)
    if not slept then return nil, err end
    ending.sweep(role.owner.runs)
    observer.settle(role.owner.runs)
    rounds = rounds + 1
    if rounds % per_idle == 0 then ask_about_silent(role, idle_ms) end
  end
  return true
end

return M
