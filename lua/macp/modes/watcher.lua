-- Watcher: folder changes -> registry:scan. One task per directory; a failing scan is logged and watching goes on.

local fs = require("host.fs")
local log = require("host.log")
local task = require("host.task")

local DEBOUNCE_MS = 20
local RETRY_MS = 1000

local Watcher = {}
Watcher.__index = Watcher

local M = {}

-- Follows one directory until it is stopped. (yields)
local function follow(self, registry, dir)
  while not self.stopped do
    local watch, err = fs.watch(dir, { debounce_ms = DEBOUNCE_MS })
    if watch == nil then
      log.error("mode.watch_failed", { directory = dir, message = err.message })
      task.sleep(RETRY_MS)
    else
      self.watches[dir] = watch
      while not self.stopped do
        local changed = watch:next()
        if not changed then break end
        -- Whatever a folder holds, the next change must still be seen.
        local ok, problem = pcall(registry.scan, registry, dir)
        if not ok then log.error("mode.scan_failed", { directory = dir, message = tostring(problem) }) end
      end
      self.watches[dir] = nil
      watch:close()
    end
  end
end

---Starts watching.
---@param registry table with scan(dir)
---@param dirs string[]
function M.start(registry, dirs)
  local self = setmetatable({ watches = {}, tasks = {}, stopped = false }, Watcher)
  for i, dir in ipairs(dirs) do self.tasks[i] = task.spawn(follow, self, registry, dir) end
  return self
end

---Ends the tasks. Does not wait for them.
function Watcher:stop()
  self.stopped = true
  for _, follower in ipairs(self.tasks) do follower:cancel() end
end

return M
