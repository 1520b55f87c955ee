-- host.task, the part that calls Lua functions across waits (C functions cannot be yielded through).
-- Receives the table of C functions and returns the finished module.

local function finish_scope(native, deadline, ok, ...)
  native.pop_deadline(deadline)
  if not ok then error((...), 0) end
  return ...
end

local function finish_shield(native, ok, ...)
  native.set_shield(-1)
  if not ok then error((...), 0) end
  return ...
end

local Group = {}
Group.__index = Group

local function fail(group, err)
  if group.failure then return end
  group.failure = err
  for i = 1, group.count do group[i]:cancel() end
end

-- A member fails by raising or by returning nil, err.
local function note(group, ok, ...)
  if not ok then
    local err = (...)
    fail(group, type(err) == "table" and err or { code = "TASK_FAILED", message = tostring(err) })
    return
  end
  local first, err = ...
  if first == nil and type(err) == "table" and err.code then fail(group, err) end
end

local function run(group, scope, fn, ...)
  if scope then group.native.set_scope(scope) end
  note(group, pcall(fn, ...))
end

--- Starts fn(...) as a member of the group.
function Group:spawn(fn, ...)
  local task = self.native.spawn(run, self, self.scope, fn, ...)
  self.count = self.count + 1
  self[self.count] = task
  if self.failure then task:cancel() end
  return task
end

local function join_all(group)
  local i = 1
  while i <= group.count do -- members may spawn more members
    group[i]:join()
    i = i + 1
  end
end

return function(native)
  local M = {
    spawn = native.spawn, sleep = native.sleep, cond = native.cond, current = native.current,
    cancelled = native.cancelled, inside = native.inside, live = native.live, scope = native.scope,
    set_scope = native.set_scope,
  }

  --- Runs fn(...) so that its waits fail with TIMEOUT after ms. (yields)
  function M.with_deadline(ms, fn, ...)
    local deadline = native.push_deadline(ms)
    return finish_scope(native, deadline, pcall(fn, ...))
  end

  --- Runs fn(...) with cancellation held back until it has returned: for clean-up that must wait. (yields)
  function M.shield(fn, ...)
    native.set_shield(1)
    return finish_shield(native, pcall(fn, ...))
  end

  --- Calls fn(group) and waits for everything it spawned; the first failure cancels the rest. (yields)
  ---@return true|nil, table|nil err
  function M.group(fn)
    local group = setmetatable({ native = native, count = 0, scope = native.scope() }, Group)
    local ok, err = pcall(fn, group)
    if not ok then fail(group, err) end
    M.shield(join_all, group)
    if not ok then error(err, 0) end
    if group.failure then return nil, group.failure end
    return true
  end

  local Ticker = {}
  Ticker.__index = Ticker

  --- Ends a ticker; a tick in progress is cancelled.
  function Ticker:stop()
    self.stopped = true
    self.task:cancel()
  end

  --- Calls fn() every ms milliseconds, never overlapping; an error of fn is logged and the next tick comes.
  function M.every(ms, fn)
    local ticker = setmetatable({}, Ticker)
    ticker.task = native.spawn(function()
      while not ticker.stopped do
        local slept = native.sleep(ms)
        if not slept or ticker.stopped then return end
        local ok, err = pcall(fn)
        if not ok then
          require("host.log").error("task.failed", { message = tostring(type(err) == "table" and err.message or err) })
        end
      end
    end)
    return ticker
  end

  return M
end
