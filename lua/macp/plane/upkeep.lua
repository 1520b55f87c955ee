-- Small chores on runs in memory: announced ends whose envelopes do not come, streams that have been silent for long.

local sys = require("host.sys")
local task = require("host.task")

local ending = require("macp.plane.ending")

local EVERY_MS = 500

local M = {}

-- A silent session may have ended unnoticed; the stream stays as it is.
local function ask_about_silent(role, idle_ms)
  local now_ms = sys.now_ms()
  for _, run in pairs(role.owner.runs) do
    local heard = math.max(run.last_event_ms, run.asked_ms or 0)
    if run.session and heard > 0 and now_ms - heard >= idle_ms then
      run.asked_ms = now_ms
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
    rounds = rounds + 1
    if rounds % per_idle == 0 then ask_about_silent(role, idle_ms) end
  end
  return true
end

return M
