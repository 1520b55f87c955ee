-- The follower: the live tail of runs that other processes own. It reads their rows when a notice says that there are
-- new ones, many runs at once, and only of runs that somebody listens to here. Notices may get lost: every few seconds
-- it looks without one.

local log = require("host.log")
local sys = require("host.sys")
local task = require("host.task")

local events_store = require("macp.store.events")

local RUNS_PER_QUESTION = 32
local EVENTS_PER_RUN = 100
local BYTES_PER_RUN = 65536
local RETRY_MS = 500
local POLL_MS = 1000 -- without notices
local REPAIR_MS = 5000 -- with them
local SETTLE_MS = 3000 -- after that every other process sends them
local REST = 4 -- of a projection's time: reading projections takes a fifth of a task's time at most

local ENDS = { ["run.completed"] = true, ["run.failed"] = true, ["run.cancelled"] = true }

---@class macp.plane.Follower
---@field notices_since number|nil since when notices arrive
local Follower = {}
Follower.__index = Follower

local M = { ENDS = ENDS }

---@param deps { db: table, hub: macp.plane.Hub, reader: macp.plane.Reader }
function M.new(deps)
  local self = setmetatable({ db = deps.db, hub = deps.hub, reader = deps.reader, notices_since = nil, due = {},
    filled = task.cond(), to_render = {}, render_filled = task.cond(), polled_at = 0 }, Follower)
  deps.hub.follower = self
  return self
end

---From now on notices arrive.
function Follower:rely_on_notices()
  self.notices_since = sys.mono_ms()
  self:look_at_all()
end

---No notices arrive any more.
function Follower:without_notices()
  self.notices_since = nil
  self.filled:signal()
end

---There may be new rows of this topic.
function Follower:look_at(topic)
  if topic.due then return end
  topic.due = true
  self.due[#self.due + 1] = topic
  self.filled:signal()
end

---There may be new rows of every topic: notices may have been lost.
function Follower:look_at_all()
  self.polled_at = sys.mono_ms()
  for _, topic in pairs(self.hub.topics) do
    if topic.run == nil and topic.followed and not topic.ended then self:look_at(topic) end
  end
end

---The projection of this topic is wanted; it goes through Hub:snapshot.
function Follower:render(topic)
  if topic.rendering then return end
  topic.rendering = true
  self.to_render[#self.to_render + 1] = topic
  self.render_filled:signal()
end

---Ends the waits of this follower's tasks.
function Follower:wake()
  self.filled:signal()
  self.render_filled:signal()
end

-- Takes topics of one tenant from the queue.
local function take_due(self)
  local taken, kept, ids, seqs = {}, {}, {}, {}
  for _, topic in ipairs(self.due) do
    local first = taken[1]
    if #taken < RUNS_PER_QUESTION and (first == nil or first.tenant == topic.tenant) then
      topic.due = nil
      if topic.n > 0 and topic.followed and topic.run == nil then
        taken[#taken + 1] = topic
        ids[#taken], seqs[#taken] = topic.run_id, topic.last_event_seq
      end
    else
      kept[#kept + 1] = topic
    end
  end
  self.due = kept
  return taken, ids, seqs
end

-- Rows as the events of one topic each.
local function by_run(rows)
  local found = {}
  for _, row in ipairs(rows) do
    local events = found[row.run_id]
    if events == nil then
      events = { n = 0, seqs = {}, types = {}, documents = {}, bytes = 0, ended = false }
      found[row.run_id] = events
    end
    local n = events.n + 1
    events.n, events.seqs[n], events.types[n], events.documents[n] = n, row.seq, row.type, row.document
    events.bytes = events.bytes + #row.document
    if ENDS[row.type] then events.ended = true end
  end
  return found
end

-- The run has ended and all its events are published: everybody gets its final projection. (yields)
local function finish(self, topic)
  local text, seq = self.reader:state(topic.tenant, topic.run_id)
  if text == nil then return nil, seq end
  if topic.run == nil then self.hub:finish(topic.run_id, text, seq) end
  return true
end

-- Reads and publishes what some topics lack. (yields)
local function advance(self)
  local taken, ids, seqs = take_due(self)
  if #taken == 0 then return true end
  local rows, err = events_store.after_many(self.db, taken[1].tenant, ids, seqs, EVENTS_PER_RUN,
    BYTES_PER_RUN)
  if rows == nil then
    for _, topic in ipairs(taken) do self:look_at(topic) end
    return nil, err
  end
  local found = by_run(rows)
  for i, topic in ipairs(taken) do
    local events = found[topic.run_id]
    -- Taken over by this process meanwhile, or begun anew by others: then these rows are not the ones that come next.
    if events and topic.followed and topic.run == nil and topic.last_event_seq == seqs[i] then
      self.hub:publish_followed(topic, events)
      if events.ended then topic.ending = true end
      if events.n == EVENTS_PER_RUN or events.bytes >= BYTES_PER_RUN then self:look_at(topic) end
    end
  end
  for _, topic in ipairs(taken) do
    if topic.ending and not topic.due and topic.run == nil then
      local done, finish_err = finish(self, topic)
      if not done then
        self:look_at(topic)
        return nil, finish_err
      end
      topic.ending = nil
    end
  end
  return true
end

---Publishes what other processes store. (yields)
function Follower:work()
  while not self.hub.closing do
    local now = sys.mono_ms()
    local settled = self.notices_since and now - self.notices_since >= SETTLE_MS
    local left = self.polled_at + (settled and REPAIR_MS or POLL_MS) - now
    if left <= 0 then
      self:look_at_all()
    elseif #self.due == 0 then
      local ok, err = self.filled:wait(left)
      if not ok and err.code == "CANCELLED" then return nil, err end
    end
    local ok, err = advance(self)
    if not ok then
      if err.code == "CANCELLED" then return nil, err end
      log.warn("stream.follow_failed", { error = err.message })
      local slept, sleep_err = task.sleep(RETRY_MS)
      if not slept then return nil, sleep_err end
    end
  end
  return true
end

---Reads projections that subscribers are to get, one after the other. (yields)
function Follower:render_work()
  while not self.hub.closing do
    local topic = table.remove(self.to_render, 1)
    if topic == nil then
      local ok, err = self.render_filled:wait()
      if not ok then return nil, err end
    else
      topic.rendering = nil
      if topic.n > 0 and topic.run == nil and not topic.ended then
        local began = sys.mono_ms()
        local text, seq = self.reader:state(topic.tenant, topic.run_id)
        if text == nil and seq.code == "CANCELLED" then return nil, seq end
        if text and topic.run == nil then
          self.hub:snapshot(topic.run_id, text, seq == topic.last_event_seq and seq or nil)
        end
        local slept, err = task.sleep(math.min(1000, 1 + REST * (sys.mono_ms() - began)))
        if not slept then return nil, err end
      end
    end
  end
  return true
end

return M
