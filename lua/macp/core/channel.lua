-- A bounded queue between tasks: the only way they pass values. Senders wait when it is full, receivers when it is
-- empty; after close what is queued can still be received.

local task = require("host.task")

---@class macp.Channel
local Channel = {}
Channel.__index = Channel

local CLOSED = { code = "CLOSED", message = "the channel is closed" }

local M = { CLOSED = CLOSED }

---@param capacity integer at least 1
---@return macp.Channel
function M.new(capacity)
  assert(capacity >= 1, "channel capacity must be at least 1")
  return setmetatable({
    capacity = capacity, items = {}, head = 1, count = 0, closed = false,
    not_empty = task.cond(), not_full = task.cond(),
  }, Channel)
end

local function push(self, value)
  self.items[(self.head + self.count - 1) % self.capacity + 1] = value
  self.count = self.count + 1
  self.not_empty:signal()
end

local function pop(self)
  local head = self.head
  local value = self.items[head]
  self.items[head] = nil
  self.head = head % self.capacity + 1
  self.count = self.count - 1
  self.not_full:signal()
  return value
end

---Queues a value, waiting while the channel is full. (yields)
---@param value any not nil
---@return true|nil
---@return table|nil err CLOSED or CANCELLED
function Channel:send(value)
  assert(value ~= nil, "a channel carries no nil")
  while self.count >= self.capacity and not self.closed do
    local ok, err = self.not_full:wait()
    if not ok then return nil, err end
  end
  if self.closed then return nil, CLOSED end
  push(self, value)
  return true
end

---Queues a value if there is room; never waits.
---@return boolean sent
---@return "full"|"closed"|nil
function Channel:try_send(value)
  assert(value ~= nil, "a channel carries no nil")
  if self.closed then return false, "closed" end
  if self.count >= self.capacity then return false, "full" end
  push(self, value)
  return true
end

local function wait_for_value(self, timeout_ms)
  while self.count == 0 do
    if self.closed then return nil end
    local ok, err = self.not_empty:wait(timeout_ms)
    if not ok then return nil, err end
  end
  return true
end

---The next value. (yields)
---@param timeout_ms number|nil
---@return any value, or nil when the channel is closed and empty
---@return table|nil err CANCELLED or TIMEOUT
function Channel:recv(timeout_ms)
  local ready, err = wait_for_value(self, timeout_ms)
  if not ready then return nil, err end
  return pop(self)
end

---At least one and at most `max` values. (yields)
---@return table|nil values, or nil when the channel is closed and empty
---@return table|nil err
function Channel:recv_many(max, timeout_ms)
  local ready, err = wait_for_value(self, timeout_ms)
  if not ready then return nil, err end
  local values, n = {}, math.min(max, self.count)
  for i = 1, n do values[i] = pop(self) end
  return values
end

---No more values go in; waiting senders fail, waiting receivers get nil. May be called again.
function Channel:close()
  if self.closed then return end
  self.closed = true
  self.not_empty:broadcast()
  self.not_full:broadcast()
end

---Number of queued values.
function Channel:len()
  return self.count
end

return M
