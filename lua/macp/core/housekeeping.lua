-- Memory of a serving process: a burst leaves garbage and free pages behind that nobody would collect while nothing
-- happens. When the process has been quiet for a moment, one collection cycle runs in small steps and what is free goes
-- back to the system.

local sys = require("host.sys")
local task = require("host.task")

local TICK_MS = 500
local QUIET_SHARE = 0.25 -- of one processor, below which a tick counts as quiet
local GROWTH_BYTES = 2 * 1024 * 1024 -- since the last cycle, below which none is worth its time
local STEP = 400 -- kilobytes of work per step: well under a millisecond
local STEP_PAUSE_MS = 2

local M = {}

-- To the end of a cycle in steps; other tasks run between them. (yields)
local function finish_cycle()
  while not collectgarbage("step", STEP) do
    if not task.sleep(STEP_PAUSE_MS) then return false end
  end
  return true
end

-- The first end may be that of a cycle that had marked before the garbage was garbage; the second is a full one. (yields)
local function collect()
  return finish_cycle() and finish_cycle()
end

---Starts looking after memory; returns a handle with stop().
---@param also fun()|nil a further collector, called after a cycle: e.g. that of script isolates
function M.start(also)
  local floor_bytes, cpu_ms = 0, sys.cpu_ms()
  return task.every(TICK_MS, function()
    local used_ms = sys.cpu_ms() - cpu_ms
    cpu_ms = cpu_ms + used_ms
    if used_ms > TICK_MS * QUIET_SHARE or sys.lua_bytes() < floor_bytes + GROWTH_BYTES then return end
    collect()
    if also then also() end
    sys.trim()
    floor_bytes, cpu_ms = sys.lua_bytes(), sys.cpu_ms()
  end)
end

return M
