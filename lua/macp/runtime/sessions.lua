-- The sessions in memory: the table, its order, who has how many open, and when each needs attention.
-- What is not in memory is in the journal; `find` brings it back.

local task = require("host.task")

local lifecycle = require("macp.protocol.lifecycle")
local session_record = require("macp.runtime.session")
local deadlines = require("macp.runtime.deadlines")

local COLD_LIMIT = 256 -- finished sessions brought back by a reader

local Sessions = {}
Sessions.__index = Sessions

local M = {}

---@param opts { loader: table, journal: table, retention_ms: integer, on_ended: fun(session),
---  before_rebuild: fun(session) (yields) }
---  loader:load(id) (yields) -> session|nil, err ; loader:reload(session) (yields) -> true|nil, err
function M.new(opts)
  return setmetatable({
    loader = opts.loader,
    journal = opts.journal,
    retention_ms = opts.retention_ms,
    on_ended = opts.on_ended,
    before_rebuild = opts.before_rebuild,
    by_id = {},
    count = 0,
    open_by = {},
    open = 0,
    deadlines = deadlines.new(),
    sorted = nil,
    cold = {},
    cold_ids = {},
    busy = {},
    wake = task.cond(),
  }, Sessions)
end

-- Counts a session as open for its initiator, or no longer. A session remembers which, so this is idempotent.
local function count_open(sessions, session, is_open)
  if (session.counted_open or false) == is_open then return end
  session.counted_open = is_open
  local step = is_open and 1 or -1
  local initiator = session.initiator
  local count = (sessions.open_by[initiator] or 0) + step
  sessions.open_by[initiator] = count > 0 and count or nil
  sessions.open = sessions.open + step
end

---Brings the books in line with a session's state: call after every transition.
function Sessions:settle(session)
  local is_terminal = lifecycle.is_terminal(session.state)
  if is_terminal and session.counted_open then self.on_ended(session) end
  count_open(self, session, not is_terminal and not session.gone)
  if self.by_id[session.id] ~= session then return end
  local at
  if is_terminal then
    at = session.ended_at + self.retention_ms
  else
    at = session_record.next_event_at(session)
  end
  local _, earliest = self.deadlines:first()
  self.deadlines:set(session, at)
  if at and (earliest == nil or at < earliest) then self.wake:signal() end
end

---Puts a session into memory.
function Sessions:add(session)
  self.by_id[session.id] = session
  self.count = self.count + 1
  self.sorted = nil
  self:settle(session)
end

---Takes a session out of memory; it stays readable in the journal.
function Sessions:remove(session)
  if self.by_id[session.id] ~= session then return end
  self.by_id[session.id] = nil
  self.count = self.count - 1
  self.sorted = nil
  if session.heap_index then self.deadlines:remove(session) end
end

---A session whose start was lost: it never existed.
function Sessions:forget(session)
  session.gone = true
  count_open(self, session, false)
  self:remove(session)
end

-- One task works on an id at a time; the others wait for it and look again.
local function exclusively(sessions, id, fn)
  local cond = task.cond()
  sessions.busy[id] = cond
  local ok, result, err = pcall(fn)
  sessions.busy[id] = nil
  cond:broadcast()
  if not ok then error(result, 0) end
  return result, err
end

local function keep_cold(sessions, session)
  local ids = sessions.cold_ids
  ids[#ids + 1] = session.id
  sessions.cold[session.id] = session
  if #ids > COLD_LIMIT then sessions.cold[table.remove(ids, 1)] = nil end
end

local function rebuild(sessions, session)
  return exclusively(sessions, session.id, function()
    sessions.before_rebuild(session)
    if sessions.journal:count(session.id) == 0 then
      sessions:forget(session)
      return true
    end
    local ok, err = sessions.loader:reload(session)
    if ok then sessions:settle(session) end
    return ok, err
  end)
end

local function load_cold(sessions, id)
  return exclusively(sessions, id, function()
    local session, err = sessions.loader:load(id, { history_only = true })
    if session == nil then return nil, err end
    -- Open sessions come back at start; one that could not is readable, but takes no messages.
    if not lifecycle.is_terminal(session.state) then session.quarantined = "the session was not recovered" end
    keep_cold(sessions, session)
    return session
  end)
end

---The session with this id, in step with the journal; nil when there is none. Yields only when it must read.
---@return table|nil session, table? err
function Sessions:find(id)
  while true do
    local busy = self.busy[id]
    local session = self.by_id[id] or self.cold[id]
    if busy then
      local ok, err = busy:wait()
      if not ok then return nil, err end
    elseif session == nil then
      if self.journal:count(id) == 0 then return nil end
      local loaded, err = load_cold(self, id)
      if loaded == nil then return nil, err end
    elseif session.stale then
      local ok, err = rebuild(self, session)
      if not ok then return nil, err end
    else
      return session
    end
  end
end

---Ids in memory in ascending byte order. The array is shared: do not change it.
function Sessions:ids()
  local sorted = self.sorted
  if sorted == nil then
    sorted = {}
    for id in pairs(self.by_id) do sorted[#sorted + 1] = id end
    table.sort(sorted)
    self.sorted = sorted
  end
  return sorted
end

---Forgets a cold copy, for ids whose storage was deleted.
function Sessions:drop_cold(id) self.cold[id] = nil end

return M
