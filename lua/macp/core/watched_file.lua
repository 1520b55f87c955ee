-- A file that is read again when it changes. Looked at once per period, because a look survives what a watch does not:
-- replaced files, exchanged links, network file systems.

local fs = require("host.fs")
local log = require("host.log")
local task = require("host.task")

local PERIOD_MS = 1000

local Watched = {}
Watched.__index = Watched

local M = {}

-- What differs whenever the content may differ. (yields)
local function signature(path)
  local info = fs.stat(path)
  return info and table.concat({ info.size, info.mtime_ms, info.inode }, ":")
end

---Reads the file and remembers what it looked like. (yields)
---@return string|nil text, table? err
function Watched:read()
  self.seen = signature(self.path)
  return fs.read(self.path, self.max_bytes)
end

-- (yields)
local function look(self)
  local now = signature(self.path)
  if now == self.seen then return end
  local text, err = self:read()
  if task.current():cancelled() then return end -- what was not read is no news
  self.on_change(text, err)
end

---@param opts { path: string, max_bytes: integer, period_ms: integer|nil }
function M.new(opts)
  return setmetatable({
    path = opts.path, max_bytes = opts.max_bytes, period_ms = opts.period_ms or PERIOD_MS,
  }, Watched)
end

---Calls on_change(text, err) in a task whenever the file has changed since the last read.
function Watched:watch(on_change)
  self.on_change = on_change
  self.ticker = task.every(self.period_ms, function() look(self) end)
  log.debug("file.watched", { path = self.path })
end

---Ends the watching. (yields)
function Watched:close()
  if self.ticker == nil then return end
  self.ticker:stop()
  self.ticker.task:join()
  self.ticker = nil
end

return M
