-- Owns long tasks: restarts them with backoff, knows what they do, ends them in reverse order of their start.

local sys = require("host.sys")
local task = require("host.task")

local backoff = require("macp.core.backoff")
local errors = require("macp.core.errors")
local json = require("macp.core.json")
local repeats = require("macp.core.repeats")

local repeated = repeats.new() -- failures that come again and again

local RECENT_FAILURES = 20
local CANCEL_GRACE_MS = 500 -- for what did not end politely and was cancelled

---@class macp.Child one supervised task
---@field name string
---@field state "running"|"waiting"|"stopping"|"ended"
---@field starts integer
local Child = {}
Child.__index = Child

---@class macp.Supervisor
local Supervisor = {}
Supervisor.__index = Supervisor

local M = {}

---@param name string shown in logs and status
---@return macp.Supervisor
function M.new(name)
  return setmetatable({
    name = name, children = {}, next_id = 1, live = 0, draining = false, failures = {}, changed = task.cond(),
  }, Supervisor)
end

---true when the child was asked to end; for loops that do not wait in between.
function Child:stopping()
  return self.state == "stopping"
end

---Asks the child to end: its polite `stop` if it has one, else cancels its current wait.
function Child:stop()
  if self.state == "ended" or self.state == "stopping" then return end
  local waiting = self.state == "waiting"
  self.state = "stopping"
  if self.opts.stop and not waiting then self.opts.stop() else self.task:cancel() end
end

---Cancels the child's wait without asking.
function Child:cancel()
  if self.state == "ended" then return end
  self.state = "stopping"
  self.task:cancel()
end

local function error_text(err)
  if type(err) == "table" then
    if err.traceback then return err.traceback end
    return tostring(err.code) .. (err.message and (": " .. tostring(err.message)) or "")
  end
  return tostring(err)
end

local function with_traceback(err)
  if type(err) == "table" then return err end
  return debug.traceback(tostring(err), 2)
end

-- One run of the child's function: nil when it ended well, else what went wrong. (yields)
local function run_once(child)
  local ok, value, err = xpcall(child.fn, with_traceback, child)
  if not ok then return value end
  if value == nil and err ~= nil then return err end
  return nil
end

local function note_failure(supervisor, child, err)
  child.last_error = error_text(err)
  child.failed_at_ms = sys.now_ms()
  local failures = supervisor.failures
  failures[#failures + 1] = { name = child.name, error = child.last_error, at_ms = child.failed_at_ms }
  if #failures > RECENT_FAILURES then table.remove(failures, 1) end
  repeated:tell("warn", "task.failed", child.last_error, {
    supervisor = supervisor.name, task = child.name, error = child.last_error, starts = child.starts,
  })
end

local function wants_restart(child, failed)
  if child.state == "stopping" then return false end
  return child.restart == "always" or (child.restart == "on_error" and failed)
end

-- Waits before the next start; false when the child was stopped meanwhile. (yields)
local function pause(child, ran_ms)
  if ran_ms > child.delays.max_ms then child.delays:reset() end
  child.state = "waiting"
  local slept = task.sleep(child.delays:next())
  if child.state ~= "waiting" or not slept then return false end
  child.state = "running"
  return true
end

-- The life of a child, in its own task. (yields)
local function live(supervisor, child)
  repeat
    child.starts = child.starts + 1
    local began = sys.mono_ms()
    local err = run_once(child)
    local failed = err ~= nil and child.state ~= "stopping"
    if failed then note_failure(supervisor, child, err) end
  until not wants_restart(child, failed) or not pause(child, sys.mono_ms() - began)
  child.state = "ended"
  supervisor.children[child.id] = nil
  supervisor.live = supervisor.live - 1
  supervisor.changed:broadcast()
end

---Starts fn(child) in a task of its own. fn ends well by returning; nil, err or an error is a failure.
---@param name string
---@param fn fun(child: macp.Child): any (yields)
---@param opts { restart: "always"|"on_error"|"never"|nil, backoff_ms: number|nil, max_backoff_ms: number|nil,
---  stop: function|nil }|nil restart defaults to on_error; stop asks a running fn politely to end
---@return macp.Child|nil
---@return macp.Error|nil SHUTTING_DOWN once draining
function Supervisor:start(name, fn, opts)
  if self.draining then return nil, errors.new("SHUTTING_DOWN") end
  opts = opts or {}
  local base_ms = opts.backoff_ms or 100
  local child = setmetatable({
    id = self.next_id, name = name, fn = fn, opts = opts, state = "running", starts = 0,
    restart = opts.restart or "on_error", started_at_ms = sys.now_ms(),
    delays = backoff.new({ base_ms = base_ms, max_ms = math.max(base_ms, opts.max_backoff_ms or 30000) }),
  }, Child)
  self.next_id = self.next_id + 1
  self.children[child.id] = child
  self.live = self.live + 1
  child.task = task.spawn(live, self, child)
  return child
end

local function newest_first(children)
  local list = {}
  for _, child in pairs(children) do list[#list + 1] = child end
  table.sort(list, function(left, right) return left.id > right.id end)
  return list
end

-- (yields) true when the child has ended before the deadline
local function wait_ended(supervisor, child, deadline)
  while child.state ~= "ended" do
    local left = deadline - sys.mono_ms()
    if left <= 0 then return false end
    supervisor.changed:wait(left)
  end
  return true
end

---Ends all children, the newest first, each within what is left of ms; then cancels the rest. (yields)
---@param ms number
---@return true|nil
---@return table|nil err TIMEOUT with the names that did not end
function Supervisor:drain(ms)
  self.draining = true
  local deadline = sys.mono_ms() + ms
  local late = {}
  for _, child in ipairs(newest_first(self.children)) do
    child:stop()
    if not wait_ended(self, child, deadline) then
      child:cancel()
      late[#late + 1] = child
    end
  end
  local names, last = {}, sys.mono_ms() + CANCEL_GRACE_MS
  for _, child in ipairs(late) do
    if not wait_ended(self, child, last) then names[#names + 1] = child.name end
  end
  if #names == 0 then return true end
  return nil, { code = "TIMEOUT", message = "tasks did not end: " .. table.concat(names, ", ") }
end

---What runs here: { name, live, draining, tasks = { name, state, starts, ... }, failures }.
function Supervisor:status()
  local tasks = json.array({})
  for i, child in ipairs(newest_first(self.children)) do
    tasks[i] = {
      name = child.name, state = child.state, starts = child.starts, started_at_ms = child.started_at_ms,
      last_error = child.last_error, failed_at_ms = child.failed_at_ms,
    }
  end
  return {
    name = self.name, live = self.live, draining = self.draining, tasks = tasks,
    failures = json.array({ unpack(self.failures) }),
  }
end

return M
