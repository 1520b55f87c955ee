-- Session time as modes see it: milliseconds since the session started, without the time it was suspended. It is told
-- from what senders say, but runs neither backwards nor past the time of receipt. Plain data: stored with the
-- projection, and the same whenever the history is read again.

local M = {}

---@class macp.plane.SessionClock
---@field started_ms integer|nil wall time at session time 0
---@field last_ms integer|nil wall time of the last envelope
---@field last_t integer session time of the last envelope
---@field suspended_at integer|nil wall time since which the session is suspended
---@field suspended_ms integer all suspensions that are over
---@return macp.plane.SessionClock
function M.new()
  return { started_ms = nil, last_ms = nil, last_t = 0, suspended_at = nil, suspended_ms = 0 }
end

---@param clock macp.plane.SessionClock
function M.copy(clock)
  return { started_ms = clock.started_ms, last_ms = clock.last_ms, last_t = clock.last_t,
    suspended_at = clock.suspended_at, suspended_ms = clock.suspended_ms }
end

---The session was suspended; nothing if it is already.
function M.suspend(clock, ms)
  if clock.suspended_at == nil then clock.suspended_at = ms end
end

---The session goes on; nothing if it does already.
function M.resume(clock, ms)
  if clock.suspended_at == nil then return end
  local resumed = math.max(ms, clock.suspended_at)
  clock.suspended_ms = clock.suspended_ms + resumed - clock.suspended_at
  clock.suspended_at = nil
  -- Whoever speaks now speaks after the pause, whatever the sender's clock says.
  clock.last_ms = math.max(clock.last_ms or resumed, resumed)
end

---Times of an envelope.
---@param timestamp_ms integer what its sender says; 0: nothing
---@param received_ms integer
---@return integer t session time
---@return integer wall_ms
function M.tell(clock, timestamp_ms, received_ms)
  local wall = timestamp_ms > 0 and timestamp_ms or received_ms
  if wall > received_ms then wall = received_ms end
  local earliest = clock.last_ms or clock.started_ms or wall
  if wall < earliest then wall = earliest end
  if clock.started_ms == nil then clock.started_ms = wall end
  clock.last_ms = wall
  local running = clock.suspended_at and math.min(wall, clock.suspended_at) or wall
  local t = math.max(running - clock.started_ms - clock.suspended_ms, clock.last_t)
  clock.last_t = t
  return t, wall
end

---Wall time at session time 0 as timers of a mode need it: what they wait for moves with every suspension.
function M.base_ms(clock)
  return (clock.started_ms or 0) + clock.suspended_ms
end

return M
