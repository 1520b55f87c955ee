-- Follows directories: a call once one of them is watched, since it may have changed since its user read it, and after
-- whatever changes in it. One task per directory; a failing call is logged and following goes on.

local fs = require("host.fs")
local log = require("host.log")
local task = require("host.task")

local DEBOUNCE_MS = 20
local RETRY_MS = 1000

local Watcher = {}
Watcher.__index = Watcher

local M = {}

-- Follows one directory until it is stopped. (yields)
local function follow(self, dir)
  while not self.stopped do
    local watch, err = fs.watch(dir, { debounce_ms = DEBOUNCE_MS })
    if watch == nil then
      log.error(self.what .. ".watch_failed", { directory = dir, message = err.message })
      task.sleep(RETRY_MS)
    else
      self.watches[dir] = watch
      repeat
        -- Whatever a directory holds, the next change must still be seen.
        local ok, problem = pcall(self.on_change, dir)
        if not ok then log.error(self.what .. ".scan_failed", { directory = dir, message = tostring(problem) }) end
      until self.stopped or not watch:next()
      self.watches[dir] = nil
      watch:close()
    end
  end
end

---Starts watching.
---@param dirs string[]
---@param what string noun of the events in the log, e.g. "mode"
---@param on_change fun(dir: string) called in a task of the watcher; may yield
function M.start(dirs, what, on_change)
  local self = setmetatable({ watches = {}, tasks = {}, stopped = false, what = what, on_change = on_change }, Watcher)
  for i, dir in ipairs(dirs) do self.tasks[i] = task.spawn(follow, self, dir) end
  return self
end

---Ends the tasks. Does not wait for them.
function Watcher:stop()
  self.stopped = true
  for _, follower in ipairs(self.tasks) do follower:cancel() end
end

return M
