-- The hub: who listens to which run, and the fan-out of what was stored. A topic exists only while somebody listens.
-- A frame is encoded once and offered to every subscriber from the publishing task; nobody is woken for it. A
-- subscriber whose socket is full leaves the live tail and reads rows by number until it meets the tail again.
-- The tail of a run comes from its writer when this process owns it, else from plane/follower.lua.

local bytes = require("host.bytes")
local sys = require("host.sys")
local task = require("host.task")

local SNAPSHOT_EVERY_MS = 250

---@class macp.plane.Hub
local Hub = {}
Hub.__index = Hub

local M = {}

---One server-sent event as text.
---@param name string
---@param id integer|nil
---@param json_text string one line
function M.frame(name, id, json_text)
  if id then return "event: " .. name .. "\nid: " .. id .. "\ndata: " .. json_text .. "\n\n" end
  return "event: " .. name .. "\ndata: " .. json_text .. "\n\n"
end

local frame = M.frame

---@param opts { snapshot: fun(run: macp.plane.Run), slow: table|nil }
--- snapshot(run) is asked to have the run's projection rendered; it arrives through Hub:snapshot. slow counts
--- subscribers that fell behind
function M.new(opts)
  return setmetatable({
    topics = {}, ask_snapshot = opts.snapshot, slow = opts.slow, due = {}, due_filled = task.cond(), count = 0,
    follower = nil, -- of runs that other processes own; set once it exists
    on_follow = nil, -- fun(run_id): such a run is followed from now on; must not yield
    closing = false,
  }, Hub)
end

---Joins the topic of a run.
---@param run_id string
---@param run macp.plane.Run|nil the run when this process owns it
---@param sink { offer: fun(self, frames): boolean, string|nil } the response
---@param sent_seq integer last number that the subscriber has or does not want
---@param tenant string
---@param filter macp.plane.EventFilter|nil which events it wants
function Hub:subscribe(run_id, run, sink, sent_seq, tenant, filter)
  local topic = self.topics[run_id]
  if topic == nil then
    topic = { run_id = run_id, tenant = tenant, run = run, subscribers = {}, n = 0,
      last_event_seq = run and run.event_seq or 0, ended = nil, snapshot_at = 0, snapshot_due = false,
      snapshot_wanted = false,
      followed = false, noticed_seq = 0 } -- of a run that another process owns
    self.topics[run_id] = topic
  elseif run and topic.run ~= run then
    self:attach(run)
  end
  local subscriber = { topic = topic, sink = sink, sent_seq = sent_seq, live = false, wake = task.cond(),
    wants_snapshot = true, snapshot_owed = false, kicked = false, at = topic.n + 1, filter = filter }
  topic.n = topic.n + 1
  topic.subscribers[topic.n] = subscriber
  self.count = self.count + 1
  return subscriber
end

---Leaves; may be called again.
function Hub:unsubscribe(subscriber)
  local topic = subscriber.topic
  if topic.subscribers[subscriber.at] ~= subscriber then return end
  local last = topic.subscribers[topic.n]
  topic.subscribers[subscriber.at], last.at = last, subscriber.at
  topic.subscribers[topic.n] = nil
  topic.n = topic.n - 1
  if topic.n == 0 and self.topics[topic.run_id] == topic then self.topics[topic.run_id] = nil end
  self.count = self.count - 1
end

-- Something changed for a subscriber: its task looks again, even when it is not waiting right now.
local function kick(subscriber)
  subscriber.kicked = true
  subscriber.wake:signal()
end

local function fall_behind(subscriber)
  subscriber.live = false
  kick(subscriber)
end

---A run came (back) under the ownership of this process: its listeners follow it from here.
function Hub:attach(run)
  local topic = self.topics[run.id]
  if topic == nil then return end
  topic.run, topic.followed = run, false
  topic.ended = nil
  topic.last_event_seq = math.max(topic.last_event_seq, run.event_seq)
  for i = 1, topic.n do fall_behind(topic.subscribers[i]) end
end

-- Some events as the bytes that a subscriber gets: encoded once for everybody with the same filter. false: none of
-- them is wanted.
local function encoder(events)
  local pieces = {}
  return function(filter)
    local key = filter and filter.key or ""
    local piece = pieces[key]
    if piece == nil then
      local frames = {}
      for i = 1, events.n do
        if filter == nil or filter.types[events.types[i]] then
          frames[#frames + 1] = frame("canonical_event", events.seqs[i], events.documents[i])
        end
      end
      piece = #frames > 0 and bytes.new(table.concat(frames))
      pieces[key] = piece
    end
    return piece
  end
end

-- Offers events to everybody on the live tail.
local function offer_all(self, topic, events)
  local encoded, first_seq, last_seq = encoder(events), events.seqs[1], events.seqs[events.n]
  local i = 1
  while i <= topic.n do
    local subscriber = topic.subscribers[i]
    if subscriber.live and subscriber.sent_seq < last_seq then
      local ok, why = false, "overlap" -- it has read a part of this from the database already
      if subscriber.sent_seq < first_seq then
        local piece = encoded(subscriber.filter)
        if piece then ok, why = subscriber.sink:offer(piece) else ok = true end
      end
      if ok then
        subscriber.sent_seq = last_seq
      elseif why == "closed" then
        self:unsubscribe(subscriber)
        i = i - 1
      else
        fall_behind(subscriber)
        if why == "full" and self.slow then self.slow:inc() end
      end
    end
    i = i + 1
  end
end

local function request_snapshot(self, topic)
  if topic.snapshot_due then return end
  topic.snapshot_due = true
  self.due[#self.due + 1] = topic
  self.due_filled:signal()
end

---Publishes the events of a run that were just stored.
---@param entry table of plane/batch.lua
function Hub:publish(entry)
  local topic = self.topics[entry.run.id]
  if topic == nil then return end
  if entry.n > 0 and entry.seqs[entry.n] > topic.last_event_seq then
    topic.last_event_seq = entry.seqs[entry.n]
    offer_all(self, topic, entry)
    request_snapshot(self, topic)
  end
  if entry.text then self:snapshot(entry.run.id, entry.text, entry.text_seq) end
end

---Publishes stored events of a run that another process owns.
---@param events { n: integer, seqs: integer[], types: string[], documents: string[] } all there are after
--- topic.last_event_seq, up to the last of them
function Hub:publish_followed(topic, events)
  topic.last_event_seq = events.seqs[events.n]
  offer_all(self, topic, events)
  request_snapshot(self, topic)
end

---The topic of a run that another process owns gets a live tail, which begins after seq.
function Hub:follow(topic, seq)
  if topic.run or topic.followed then return end
  topic.followed, topic.last_event_seq = true, seq
  if self.on_follow then self.on_follow(topic.run_id) end
  if topic.noticed_seq > seq then self.follower:look_at(topic) end
end

---Another process has stored events of a run up to seq.
function Hub:notice(run_id, seq)
  local topic = self.topics[run_id]
  if topic == nil or topic.run or topic.ended then return end
  if seq > topic.noticed_seq then topic.noticed_seq = seq end
  if topic.followed and seq > topic.last_event_seq then self.follower:look_at(topic) end
end

---Sends a rendered projection to everybody who has all events up to it.
---@param seq integer|nil nil: the frame gets no number, because events up to it may still have to be sent
function Hub:snapshot(run_id, text, seq)
  local topic = self.topics[run_id]
  if topic == nil or not topic.snapshot_wanted then return end
  topic.snapshot_wanted = false
  local piece
  for i = 1, topic.n do
    local subscriber = topic.subscribers[i]
    if subscriber and subscriber.wants_snapshot and subscriber.live then
      piece = piece or bytes.new(frame("snapshot", seq, text))
      if subscriber.sink:offer(piece) then
        subscriber.snapshot_seq = seq
      else
        subscriber.snapshot_owed = true
        fall_behind(subscriber)
      end
    elseif subscriber and subscriber.wants_snapshot then
      subscriber.snapshot_owed = true
    end
  end
end

-- Asks for snapshots of runs that changed, each at most every 250 ms. (yields)
function Hub:work()
  while not self.closing do
    if #self.due == 0 then
      local ok, err = self.due_filled:wait()
      if not ok then return nil, err end
    end
    local now, later, wait = sys.mono_ms(), {}, SNAPSHOT_EVERY_MS
    local due = self.due
    self.due = {}
    for _, topic in ipairs(due) do
      local left = topic.snapshot_at + SNAPSHOT_EVERY_MS - now
      if topic.ended or topic.n == 0 then
        topic.snapshot_due = false
      elseif left > 0 then
        later[#later + 1], wait = topic, math.min(wait, left)
      else
        topic.snapshot_due, topic.snapshot_wanted, topic.snapshot_at = false, true, now
        if topic.run then self.ask_snapshot(topic.run) else self.follower:render(topic) end
      end
    end
    for _, topic in ipairs(later) do self.due[#self.due + 1] = topic end
    if #self.due > 0 then
      local ok, err = task.sleep(math.max(1, wait))
      if not ok then return nil, err end
    end
  end
  return true
end

---Does anybody listen to this run?
function Hub:has_listeners(run_id)
  return self.topics[run_id] ~= nil
end

---The run has ended and everything is published: `text` is its final projection.
function Hub:finish(run_id, text, seq)
  local topic = self.topics[run_id]
  if topic == nil then return end
  topic.ended, topic.run = { text = text, seq = seq }, nil
  for i = 1, topic.n do kick(topic.subscribers[i]) end
end

---This process lost the run: its listeners read rows until somebody owns it again.
function Hub:detach(run_id)
  local topic = self.topics[run_id]
  if topic == nil then return end
  topic.run, topic.followed = nil, false
  for i = 1, topic.n do fall_behind(topic.subscribers[i]) end
end

---Wakes every subscriber for the end of the program.
function Hub:close()
  self.closing = true
  self.due_filled:signal()
  if self.follower then self.follower:wake() end
  for _, topic in pairs(self.topics) do
    for i = 1, topic.n do kick(topic.subscribers[i]) end
  end
end

return M
