-- Places: how many tasks of a kind may run at once. A place belongs to its task from before it starts until it has ended,
-- however it ends: nobody else gives it back, so that none is lost.

local task = require("host.task")

---@class macp.Places
---@field taken integer
local Places = {}
Places.__index = Places

local M = {}

---@param count integer
---@return macp.Places
function M.new(count)
  return setmetatable({ count = count, taken = 0, freed = task.cond() }, Places)
end

local function with_traceback(err)
  if type(err) == "table" then return err end
  return debug.traceback(tostring(err), 2)
end

local function leave(self, at_end)
  self.taken = self.taken - 1
  self.freed:signal()
  if at_end then at_end() end
end

---Runs fn in a supervised task of its own as soon as there is a place for it. What fn raises is the task's failure, as
---without places. (yields while all places are taken)
---@param supervisor macp.Supervisor
---@param name string of the task
---@param fn fun(child: macp.Child) (yields)
---@param at_end fun()|nil runs however fn ends, and when it never starts; must not yield
---@return true|nil
---@return table|nil err CANCELLED; SHUTTING_DOWN
function Places:start(supervisor, name, fn, at_end)
  while self.taken >= self.count do
    local ok, err = self.freed:wait()
    if not ok then
      if at_end then at_end() end
      return nil, err
    end
  end
  self.taken = self.taken + 1
  local child, refused = supervisor:start(name, function(child)
    local ok, value, err = xpcall(fn, with_traceback, child)
    leave(self, at_end)
    if not ok then error(value, 0) end
    return value, err
  end, { restart = "never" })
  if child then return true end
  leave(self, at_end)
  return nil, refused
end

return M
