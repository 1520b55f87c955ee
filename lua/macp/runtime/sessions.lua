-- The sessions in memory: the table, its order, who has how many open, and when each needs attention. Open ones are
-- there whole. Finished ones stay for a while, so that lists show them; after a restart they are only names (stubs).
-- What is not in memory is in the journal; `find` brings it back.

local task = require("host.task")

local cold_sessions = require("macp.runtime.cold")
local deadlines = require("macp.runtime.deadlines")
local layout = require("macp.runtime.layout")
local lifecycle = require("macp.protocol.lifecycle")
local ordered = require("macp.runtime.ordered")
local session_record = require("macp.runtime.session")

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
    by_name = ordered.new(),
    by_start = ordered.new(),
    cold = cold_sessions.new(),
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

local function attention_at(sessions, session)
  if lifecycle.is_terminal(session.state) then return session.ended_at + sessions.retention_ms end
  return session_record.next_event_at(session)
end

-- Sets when a session in memory needs attention next.
local function schedule(sessions, session, at)
  local _, earliest = sessions.deadlines:first()
  sessions.deadlines:set(session, at)
  if at and (earliest == nil or at < earliest) then sessions.wake:signal() end
end

---Brings the books in line with a session's state: call after every transition.
function Sessions:settle(session)
  local is_terminal = lifecycle.is_terminal(session.state)
  if is_terminal and not session.is_noted and not session.stale and not session.gone then
    session.is_noted = true
    self.on_ended(session)
  end
  count_open(self, session, not is_terminal and not session.gone)
  if self.by_id[session.id] == session then schedule(self, session, attention_at(self, session)) end
end

-- Where a session stands in the order of starts.
local function start_key(entry) return string.format("%016d/%s", entry.started_at, entry.id) end

local function insert(sessions, entry)
  sessions.by_id[entry.id] = entry
  sessions.count = sessions.count + 1
  sessions.by_name:add(entry.id)
  sessions.by_start:add(start_key(entry))
end

---Puts a session into memory.
function Sessions:add(session)
  insert(self, session)
  self:settle(session)
end

---Puts the name of a finished session into memory; the rest is read when somebody asks.
function Sessions:add_stub(id, started_at, ended_at)
  local stub = { id = id, is_stub = true, started_at = started_at, ended_at = ended_at }
  insert(self, stub)
  schedule(self, stub, ended_at + self.retention_ms)
end

---Takes a session out of memory; it stays readable in the journal.
function Sessions:remove(session)
  if self.by_id[session.id] ~= session then return end
  self.by_id[session.id] = nil
  self.count = self.count - 1
  self.by_name:remove(session.id)
  self.by_start:remove(start_key(session))
  if session.heap_index then self.deadlines:remove(session) end
  self.journal:park(session.id)
end

---A session whose start was lost: it never existed.
function Sessions:forget(session)
  session.gone = true
  count_open(self, session, false)
  self:remove(session)
end

---The storage of a session was deleted.
function Sessions:deleted(id)
  local session = self.by_id[id]
  if session then self:remove(session) end
  self.cold:remove(id)
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

---Runs fn while nobody finds the session. fn may yield; others who ask for this session wait meanwhile. (yields)
function Sessions:hold(session, fn)
  while self.busy[session.id] do
    if not self.busy[session.id]:wait() then return nil end
  end
  return exclusively(self, session.id, fn)
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
    local session, err = sessions.loader:load(id)
    if session == nil then
      if not sessions:exists(id) then return nil end -- deleted meanwhile, or the journal has mistaken the name
      return nil, err
    end
    -- Open sessions come back at start; one that could not is readable, but takes no messages.
    if not lifecycle.is_terminal(session.state) then
      sessions.loader:release(session)
      session.quarantined, session.due = "the session was not recovered", nil
    end
    session.is_noted = lifecycle.is_terminal(session.state)
    if not sessions:exists(id) then return nil end -- deleted while it was read
    sessions.cold:add(session)
    return session
  end)
end

---Whether a session with this id is stored or on its way there; one whose deletion is on its way is not. Does not
---yield.
function Sessions:exists(id)
  if self.by_id[id] then return true end
  if not layout.is_session(id) then return false end
  local _, with_pending = self.journal:count(id)
  return with_pending > 0
end

---The session with this id, in step with the journal; nil when there is none. Of a finished session the message ids
---may be unknown: see `load_ids`. Yields only when it must read.
---@return table|nil session, table? err
function Sessions:find(id)
  while true do
    local busy = self.busy[id]
    local session = self.by_id[id]
    if session == nil or session.is_stub then session = self.cold:get(id) end
    if busy then
      local ok, err = busy:wait()
      if not ok then return nil, err end
    elseif session == nil then
      if not self:exists(id) then return nil end
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

---Makes the message ids of a finished session known. (yields)
---@return true|nil, table? err
function Sessions:load_ids(session)
  if session.ids then return true end
  local ok, err = self.loader:load_ids(session)
  if ok then self.cold:weigh(session) end
  return ok, err
end

return M
