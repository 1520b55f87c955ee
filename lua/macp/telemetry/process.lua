-- Gauges of the process itself: memory, processor time, tasks.

local sys = require("host.sys")
local task = require("host.task")

local M = {}

---Declares the process metrics on a registry; they are read when it is rendered.
---@param metrics macp.Metrics
function M.register(metrics)
  local started = metrics:gauge("process_start_time_seconds", "When the process started, in seconds since the epoch.")
  local cpu = metrics:counter("process_cpu_seconds_total", "Processor time used, user and system.")
  local resident = metrics:gauge("process_resident_memory_bytes", "Resident memory.")
  local lua = metrics:gauge("process_lua_memory_bytes", "Memory of the application's Lua state.")
  local tasks = metrics:gauge("macp_tasks", "Tasks that are alive.")
  started:set(math.floor(sys.now_ms() / 1000))
  metrics:on_render(function()
    cpu.only.value = sys.cpu_ms() / 1000
    resident:set(sys.rss_bytes())
    lua:set(sys.lua_bytes())
    tasks:set(task.live())
  end)
end

return M
