-- What becomes of finished sessions in storage. Each gets a summary behind its history and an entry in the index of
-- finished sessions, which is ordered by time: recovery and clean-up read that index instead of the histories.
-- With `drop` the history is replaced by the start, the message ids and the summary.
--
-- The index is written behind what it speaks of, so an entry is never wrong; a missing one is added at the next start.

local log = require("host.log")
local task = require("host.task")

local checkpoint_store = require("macp.runtime.checkpoint_store")
local fault = require("macp.core.fault")
local layout = require("macp.runtime.layout")
local lifecycle = require("macp.protocol.lifecycle")
local records = require("macp.runtime.records")
local session_record = require("macp.runtime.session")

local CHUNK = 512
local IDS_PER_RECORD = 1024

local Endings = {}
Endings.__index = Endings

local M = {}

---@param opts { log: table, journal: table, mode: "keep"|"drop", load_ids: fun(session) (yields), on_deleted: fun(id) }
function M.new(opts)
  return setmetatable({
    log = opts.log,
    journal = opts.journal,
    drops = opts.mode == "drop",
    load_ids = opts.load_ids,
    on_deleted = opts.on_deleted,
    hours = {},    -- of the index, ascending
    position = {}, -- hour -> entries cleaned up
    queue = {}, -- finished sessions to drop, [head] to [tail]
    head = 1,
    tail = 0,
    wake = task.cond(),
    closed = false,
  }, Endings)
end

-- Remembers that an hour of the index exists. The hours before the last one need not be in memory.
local function add_hour(self, hour)
  local hours = self.hours
  local at = #hours
  while at > 0 and hours[at] > hour do at = at - 1 end
  if hours[at] == hour then return end
  table.insert(hours, at + 1, hour)
  if hours[#hours - 1] then self.journal:park(layout.ended(hours[#hours - 1])) end
end

-- Adds a session to the index. Never waits.
local function note(self, session)
  local hour = layout.hour_of(session.ended_at)
  local lsn, err = self.journal:append(layout.ended(hour), records.ended({
    session_id = session.id, started_at_ms = session.started_at, ended_at_ms = session.ended_at,
    records = session.index,
  }))
  if lsn == nil then
    log.warn("session.not_indexed", { session_id = session.id, message = err.message }) -- found at the next start
    return
  end
  add_hour(self, hour)
end

---A session has ended and its last record is on its way. Does not yield.
function Endings:note(session)
  checkpoint_store.remove(self.journal, session.id)
  if self.drops and not session.is_dropped then
    self.tail = self.tail + 1
    self.queue[self.tail] = session
    self.wake:signal()
    return
  end
  if not session.has_summary then
    session.has_summary = true
    if not self.log:append(session, records.summary(session_record.summary(session))) then return end
    session_record.skip(session, session.index)
  end
  note(self, session)
end

-- The ids of a session as records. (yields, so that long sessions do not hold the loop)
local function id_records(session, list)
  local ids, times = {}, {}
  for id, at in pairs(session.ids) do
    ids[#ids + 1], times[#times + 1] = id, at
    if #ids == IDS_PER_RECORD then
      list[#list + 1] = records.ids(ids, times, session.ended_at)
      ids, times = {}, {}
      if not task.sleep(0) then return nil end
    end
  end
  if #ids > 0 then list[#list + 1] = records.ids(ids, times, session.ended_at) end
  return true
end

-- Replaces a finished history by what is kept of it. (yields)
local function drop(self, session)
  local ok, err = self.log:wait(session.lsn)
  if not ok or session.stale then return nil, err end -- what ended it was lost: it goes on
  ok, err = self.load_ids(session)
  if not ok then return nil, err end
  local first
  first, err = self.journal:read(session.id, 1, 1)
  if first == nil or first[1] == nil then return nil, err end
  local list = { first[1] }
  if not id_records(session, list) then return nil end
  local summary = session_record.summary(session)
  summary.is_dropped, summary.skips = true, {}
  list[#list + 1] = records.summary(summary)
  fault("ending.before_replace")
  ok, err = self.journal:replace(session.id, list)
  if not ok then return nil, err end
  fault("ending.replaced") -- and not in the index yet
  session.is_dropped, session.has_summary, session.index, session.skips = true, true, #list, nil
  note(self, session)
  self.journal:park(session.id) -- it may have left memory before
  return true
end

---Drops the histories of finished sessions, one after another, until close. (yields)
function Endings:run()
  while not self.closed do
    local session = self.queue[self.head]
    if session == nil then
      if not self.wake:wait() and task.current():cancelled() then return end
    else
      self.queue[self.head], self.head = nil, self.head + 1
      local ok, err = drop(self, session)
      if not ok and err then
        log.warn("session.not_dropped", { session_id = session.id, message = err.message }) -- tried at the next start
      end
    end
  end
end

function Endings:close()
  self.closed = true
  self.wake:broadcast()
end

-- Runs fn(entry, index) over the entries of an hour from an index on. (yields)
local function each_entry(self, hour, from, fn)
  local key = layout.ended(hour)
  while true do
    local chunk, err = self.journal:read(key, from, CHUNK)
    if chunk == nil then return nil, err end
    if #chunk == 0 then return true end
    for i, bytes in ipairs(chunk) do
      local entry, reason = records.decode_ended(bytes)
      if entry == nil then
        log.warn("index.damaged", { key = key, index = from + i - 1, message = reason.message })
      elseif fn(entry, from + i - 1) == false then
        return true
      end
    end
    from = from + #chunk
  end
end

---Reads the whole index: which sessions have ended, and when. (yields)
---@param keys string[] of the journal
---@return table<string, { started_at: integer, ended_at: integer }>|nil by session id, table? err
function Endings:load(keys)
  local ended = {}
  for _, key in ipairs(keys) do
    local hour = layout.hour_of_key(key)
    if hour then add_hour(self, hour) end
  end
  for _, hour in ipairs(self.hours) do
    local list, collected = {}, 0
    local ok, err = each_entry(self, hour, 1, function(entry, index)
      list[index] = entry
      if entry.collected > collected then collected = entry.collected end
    end)
    if not ok then return nil, err end
    self.position[hour] = collected
    for index, entry in pairs(list) do
      local id = entry.session_id
      -- The count tells apart a session that was deleted and began anew under the same id.
      if index > collected and id ~= "" and self.journal:count(id) == entry.records then
        ended[id] = { started_at = entry.started_at_ms, ended_at = entry.ended_at_ms }
      end
    end
  end
  return ended
end

-- Whether a stored session has ended at or before a time. (yields)
local function is_over(self, id, limit)
  local count = self.journal:count(id)
  if count == 0 then return false end
  local last = self.journal:read(id, count, 1)
  local record = last and last[1] and records.decode(last[1])
  return record ~= nil and lifecycle.is_terminal(record.state) and record.received_at_ms <= limit
end

-- Deletes the sessions of due entries. The index says first that they are done with: an id may be used again as soon
-- as its session is gone. (yields)
local function delete(self, hour, due, position)
  local ids = {}
  for _, entry in ipairs(due) do
    if is_over(self, entry.session_id, entry.limit) then ids[#ids + 1] = entry.session_id end
  end
  local lsn, err = self.journal:append(layout.ended(hour), records.ended({ collected = position }))
  if lsn == nil then return nil, err end
  self.position[hour] = position
  for _, id in ipairs(ids) do
    fault("ending.before_remove") -- the index says that it is done with
    checkpoint_store.remove(self.journal, id)
    lsn, err = self.journal:remove(id)
    if lsn then
      self.on_deleted(id)
    else
      log.warn("session.delete_failed", { session_id = id, message = err.message })
    end
  end
  if lsn == nil then return true end
  local ok
  ok, err = self.journal:wait(lsn)
  fault("ending.removed")
  return ok, err
end

-- Deletes what is due in one hour. Returns whether nothing of it is left. (yields)
local function collect_hour(self, hour, limit)
  while true do
    local due, position, is_exhausted = {}, self.position[hour] or 0, true
    local ok, err = each_entry(self, hour, position + 1, function(entry, index)
      if entry.session_id ~= "" then
        if entry.ended_at_ms > limit or #due == CHUNK then
          is_exhausted = false
          return false
        end
        due[#due + 1] = { session_id = entry.session_id, limit = limit }
      end
      position = index
    end)
    if not ok then return nil, err end
    if #due > 0 then
      ok, err = delete(self, hour, due, position)
      if not ok then return nil, err end
    end
    if is_exhausted then return true end
    if #due < CHUNK then return false end
  end
end

---Deletes sessions that ended at or before a time, oldest first. Reads what it deletes, nothing else. (yields)
function Endings:collect(limit)
  while self.hours[1] and self.hours[1] * layout.HOUR_MS <= limit do
    local hour = self.hours[1]
    local is_empty, err = collect_hour(self, hour, limit)
    if is_empty == nil then
      log.warn("index.unreadable", { key = layout.ended(hour), message = err and err.message })
      return
    end
    if not is_empty or (hour + 1) * layout.HOUR_MS > limit then return end
    self.journal:remove(layout.ended(hour))
    self.position[hour] = nil
    table.remove(self.hours, 1)
  end
end

return M
