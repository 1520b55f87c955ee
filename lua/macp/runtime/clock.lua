-- What happens by itself: deadlines and timers of sessions at their time, eviction, and the clean-up of storage.

local host_log = require("host.log")
local task = require("host.task")

local lifecycle = require("macp.protocol.lifecycle")

local BATCH = 256 -- sessions attended to before other tasks run
local MAX_WAIT_MS = 60000
local RETRY_MS = 1000
local PENDING_MS = 20

local Clock = {}
Clock.__index = Clock

local M = {}

---@param opts { sessions: table, kernel: table, journal: table, endings: table, limiters: table[],
---  now_ms: fun(): integer, disk_retention_ms: integer }
function M.new(opts)
  return setmetatable({
    sessions = opts.sessions,
    kernel = opts.kernel,
    journal = opts.journal,
    endings = opts.endings,
    limiters = opts.limiters,
    now_ms = opts.now_ms,
    disk_retention_ms = opts.disk_retention_ms,
    stopping = false,
  }, Clock)
end

-- Lets time act on one due session. What could not be recorded is tried again later. (yields when it must rebuild)
local function attend(self, session, now)
  if session.is_stub then return self.sessions:remove(session) end
  if lifecycle.is_terminal(session.state) and not session.stale then
    -- What is not durable could not be read back.
    local is_pending = session.lsn > 0 and self.journal:status(session.lsn) == "pending"
    if is_pending then return self.sessions.deadlines:set(session, now + PENDING_MS) end
    return self.sessions:remove(session)
  end
  local current, err = self.sessions:find(session.id)
  if current then
    local ok, _, reason = self.kernel:observe(current, math.max(now, current.last_at))
    err = not ok and { message = reason } or nil
  end
  if session.heap_at and session.heap_at <= now and self.sessions.by_id[session.id] == session then
    self.sessions.deadlines:set(session, now + RETRY_MS)
  end
  if err then host_log.warn("session.deadline_failed", { session_id = session.id, message = err.message }) end
end

---Attends to sessions as they become due, until stopped. (yields)
function Clock:run()
  local handled = 0
  while not self.stopping do
    local session, at = self.sessions.deadlines:first()
    local now = self.now_ms()
    if session and at <= now then
      attend(self, session, now)
      handled = handled + 1
      if handled % BATCH == 0 and not task.sleep(0) then return end
    elseif not self.sessions.wake:wait(session and math.min(at - now, MAX_WAIT_MS) or MAX_WAIT_MS)
        and task.current():cancelled() then
      return
    end
  end
end

---One clean-up. (yields)
function Clock:clean_up()
  for _, limiter in ipairs(self.limiters) do limiter:sweep() end
  if self.disk_retention_ms > 0 then self.endings:collect(self.now_ms() - self.disk_retention_ms) end
end

function Clock:stop()
  self.stopping = true
  self.sessions.wake:broadcast()
end

return M
