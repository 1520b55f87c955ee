-- The runtime's one way to the journal: appends join the open flush group without waiting, and what an append makes
-- visible (frames to subscribers, lifecycle events) is handed out when it is durable, in the order of the appends.
--
-- A failed flush loses everything that was not durable then. The sessions concerned are marked stale: their memory is
-- ahead of the journal and must be rebuilt from it before anybody looks at them again.

local task = require("host.task")

local WIDTH = 4 -- lsn, session, frame, event
local COMPACT_AT = 4096

local Log = {}
Log.__index = Log

local M = {}

---@class macp.runtime.LogHooks
---@field publish fun(session: table, frame: string) an accepted envelope is durable
---@field event fun(event: table) a lifecycle event is durable
---@field stale fun(session: table) something of this session was lost
---@field flushed (fun(records: integer))|nil so many records were decided since the last time; once per group

---@param journal table host.journal
---@param hooks macp.runtime.LogHooks
function M.new(journal, hooks)
  return setmetatable({
    journal = journal,
    hooks = hooks,
    queue = {},
    head = 1,
    tail = 0,
    wake = task.cond(),
    idle = true,
    decided = journal:durable(),
    closed = false,
  }, Log)
end

-- Moves what is left to the front so that the queue stays an array.
local function compact(log)
  local queue, head, tail = log.queue, log.head, log.tail
  local count = tail - head + 1
  for i = 1, count do queue[i] = queue[head + i - 1] end
  for i = tail, math.max(count + 1, 1), -1 do queue[i] = nil end
  log.head, log.tail = 1, count
end

-- Takes the oldest entry out.
local function drop_first(log)
  local queue, head = log.queue, log.head
  queue[head], queue[head + 1], queue[head + 2], queue[head + 3] = nil, nil, nil, nil
  log.head = head + WIDTH
end

local function deliver_first(log)
  local queue, head = log.queue, log.head
  local session, frame, event = queue[head + 1], queue[head + 2], queue[head + 3]
  drop_first(log)
  if frame then log.hooks.publish(session, frame) end
  if event then log.hooks.event(event) end
end

-- A record of the session was lost with its flush, and so were all later ones.
local function mark_stale(log, session)
  if session.stale then return end
  session.stale = true
  log.hooks.stale(session)
end

local function append(self, session, bytes, tail, frame, event)
  if session.stale then return nil, { code = "STALE", message = "an earlier record of this session was lost" } end
  local last = session.lsn
  local lsn, index = self.journal:append(session.id, bytes, tail, last > 0 and last or nil)
  if lsn == nil then
    mark_stale(self, session)
    return nil, index
  end
  session.lsn, session.index = lsn, index
  local queue, at = self.queue, self.tail
  queue[at + 1], queue[at + 2], queue[at + 3], queue[at + 4] = lsn, session, frame or false, event or false
  self.tail = at + WIDTH
  if self.idle then
    self.idle = false
    self.wake:signal()
  end
  return lsn
end

---Appends a record that subscribers do not see. Never waits. After a failure in which this session lost something it
---refuses until the session is rebuilt.
---@param session table
---@param record string
---@param event? table lifecycle event of the same moment
---@return integer|nil lsn, table? err
function Log:append(session, record, event) return append(self, session, record, nil, nil, event) end

---Appends the record of an accepted envelope, which is its frame followed by what only the journal keeps. Otherwise
---like append.
---@param session table
---@param frame string what subscribers get once it is durable
---@param tail string
---@param event? table
---@return integer|nil lsn, table? err
function Log:append_framed(session, frame, tail, event) return append(self, session, frame, tail, frame, event) end

---Hands out everything that has become durable. Cheap when there is nothing.
function Log:advance()
  local journal, queue = self.journal, self.queue
  local decided, failures = journal:durable()
  if decided ~= self.decided then
    if self.hooks.flushed then self.hooks.flushed(decided - self.decided) end
    self.decided = decided
  end
  while self.head <= self.tail and queue[self.head] <= decided do
    if failures == 0 or journal:status(queue[self.head]) == "durable" then
      deliver_first(self)
    else
      local session = queue[self.head + 1]
      drop_first(self)
      mark_stale(self, session)
    end
  end
  if self.head > COMPACT_AT then compact(self) end
end

---Waits until an lsn is durable and everything up to it has been handed out; 0 stands for nothing. (yields)
---@return true|nil, table? err
function Log:wait(lsn)
  if lsn == 0 then return true end
  local ok, err = self.journal:wait(lsn)
  self:advance()
  return ok, err
end

---The task that hands out what nobody waits for. Runs until close. (yields)
function Log:run()
  while not self.closed do
    if self.head > self.tail then
      self.idle = true
      self.wake:wait()
    else
      local ok, err = self.journal:wait(self.queue[self.head])
      if not ok and err.code == "CANCELLED" then return end
      self:advance()
    end
  end
end

function Log:close()
  self.closed = true
  self.wake:broadcast()
end

---Entries appended and not handed out yet.
function Log:backlog() return (self.tail - self.head + 1) / WIDTH end

return M
