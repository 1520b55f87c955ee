-- Notices over the database: a commit of events notifies the processes that listen. Commits that notify wait for each
-- other on the server, so only those do of which somebody elsewhere wants to know: a process whose streams follow a run
-- of another one says so, on the same channel, and again every few seconds. Nothing at all is sent while no other
-- process holds a lease. A process that starts greets the others, so that they begin at once.

local log = require("host.log")
local sys = require("host.sys")
local task = require("host.task")

local notices = require("macp.plane.notices")

local stream_notices = require("macp.store.stream_notices")

local HELLO, WANT = "hello ", "want "
local RENEW_MS = 5000 -- how often a process says again what it wants
local KEEP_MS = 20000 -- for how long it is believed
local MAX_WANTED = 50000 -- runs; when there are more everything is told

---@class macp.plane.Announce.Notify
---@field is_well boolean notices arrive
---@field wanted table<string, number> until when a run is wanted elsewhere
---@field all_until number|nil until when everything is told, because wishes may have been missed; nil: for ever
local Notify = {}
Notify.__index = Notify

local M = {}

---@param deps { db: table, name: string, lease: macp.plane.Lease, hub: macp.plane.Hub,
---  follower: macp.plane.Follower, owned: fun(run_id: string): macp.plane.Run|nil }
function M.new(deps)
  local self = setmetatable({ db = deps.db, name = deps.name, lease = deps.lease, hub = deps.hub,
    follower = deps.follower, owned = deps.owned, is_well = false, wanted = {}, wanted_count = 0, all_until = nil,
    to_want = {}, to_tell = {}, filled = task.cond() }, Notify)
  deps.hub.on_follow = function(run_id)
    self.to_want[#self.to_want + 1] = run_id
    self.filled:signal()
  end
  return self
end

-- Whether somebody elsewhere may want to know of a run.
local function is_wanted(self, run_id, now)
  if self.all_until == nil or now < self.all_until then return true end
  local till = self.wanted[run_id]
  return till ~= nil and now < till
end

-- What of a batch is to be told; what is told late is left out of it.
local function wanted_of(self, batch, told)
  local found, now = {}, sys.mono_ms()
  for _, entry in ipairs(batch.runs) do
    if entry.n > 0 and not (told and told[entry]) and is_wanted(self, entry.run.id, now) then
      found[#found + 1] = entry
    end
  end
  return found
end

---Adds the notices of a batch to the unit of work that stores it.
---@return true|nil
---@return table|nil err
function Notify:add(unit, batch)
  batch.told = nil
  if self.lease.others == 0 then return true end
  local entries, told = wanted_of(self, batch), {}
  for _, entry in ipairs(entries) do told[entry] = true end
  batch.told = told
  for _, text in ipairs(notices.of(entries)) do
    local ok, err = stream_notices.add(unit, text)
    if not ok then return nil, err end
  end
  return true
end

-- These are told by a statement of their own.
local function tell_late(self, entries)
  for _, text in ipairs(notices.of(entries)) do self.to_tell[#self.to_tell + 1] = text end
  if #entries > 0 then self.filled:signal() end
end

---The batch is stored; its notices went with the commit. What somebody began to want meanwhile is told now.
function Notify:stored(batch)
  if self.lease.others > 0 then tell_late(self, wanted_of(self, batch, batch.told)) end
end

-- Somebody wants to know of these runs. What was stored before we knew is told at once.
local function note_wanted(self, ids)
  local now, late = sys.mono_ms(), {}
  for run_id in ids:gmatch("[%x%-]+") do
    local before = self.wanted[run_id]
    if before == nil then self.wanted_count = self.wanted_count + 1 end
    self.wanted[run_id] = now + KEEP_MS
    local run = (before == nil or before <= now) and self.owned(run_id)
    if run and run.event_seq > 0 then late[#late + 1] = { run = run, n = 1, seqs = { run.event_seq } } end
  end
  if self.wanted_count > MAX_WANTED then self.wanted, self.wanted_count, self.all_until = {}, 0, now + KEEP_MS end
  tell_late(self, late)
end

local function forget_unwanted(self)
  local now = sys.mono_ms()
  for run_id, till in pairs(self.wanted) do
    if till <= now then
      self.wanted[run_id] = nil
      self.wanted_count = self.wanted_count - 1
    end
  end
end

-- Says which runs streams follow here. (yields)
local function say_wanted(self, ids)
  local head = WANT .. self.name .. "/"
  local most = math.floor((notices.MAX_BYTES - #head) / 37) -- an id and a space
  for first = 1, #ids, most do
    local text = head .. table.concat(ids, " ", first, math.min(#ids, first + most - 1))
    local ok, err = stream_notices.send(self.db, text)
    if ok == nil then return nil, err end
  end
  return true
end

local function followed(self)
  local ids = {}
  for run_id, topic in pairs(self.hub.topics) do
    if topic.followed and topic.run == nil and not topic.ended then ids[#ids + 1] = run_id end
  end
  return ids
end

-- Sends what does not go with a commit; ends the listening when that fails. (yields)
local function send_others(self, sub)
  local renewed, ok, err = sys.mono_ms(), true, nil
  while ok do
    local left = renewed + RENEW_MS - sys.mono_ms()
    local ids, texts = self.to_want, self.to_tell
    self.to_want, self.to_tell = {}, {}
    if left <= 0 or self.is_greeted then
      renewed, self.is_greeted = sys.mono_ms(), nil
      ids = followed(self)
      forget_unwanted(self)
    end
    if #ids > 0 then ok, err = say_wanted(self, ids) end
    for _, text in ipairs(texts) do
      if ok then ok, err = stream_notices.send(self.db, text) end
    end
    if ok and #self.to_want + #self.to_tell == 0 and not self.is_greeted then
      local woken, wait_err = self.filled:wait(math.max(1, left <= 0 and RENEW_MS or left))
      if not woken and wait_err.code ~= "TIMEOUT" then ok, err = nil, wait_err end
    end
  end
  sub:close()
  return nil, err
end

local function on_message(self, text)
  if text:sub(1, #HELLO) == HELLO then
    if text == HELLO .. self.name then return end
    self.lease:expect_others()
    self.is_greeted = true
    self.filled:signal()
  elseif text:sub(1, #WANT) == WANT then
    local from, ids = text:match("^want ([^/]*)/(.*)$")
    if ids and from ~= self.name then note_wanted(self, ids) end
  else
    notices.each(text, function(run_id, seq) self.hub:notice(run_id, seq) end)
  end
end

-- (yields)
local function receive(self, sub)
  local greeted, err = stream_notices.send(self.db, HELLO .. self.name)
  if greeted == nil then return nil, err end
  self.is_well, self.is_greeted = true, true
  self.all_until = sys.mono_ms() + KEEP_MS
  self.filled:signal()
  self.follower:rely_on_notices()
  while true do
    local notice
    notice, err = sub:next()
    if notice == nil then return nil, err end
    if notice.reset then
      log.info("stream.notices_reset")
      self.all_until = sys.mono_ms() + KEEP_MS
      self.follower:look_at_all()
    else
      on_message(self, notice.payload)
    end
  end
end

---Listens until that fails. (yields)
---@return nil
---@return table err
function Notify:work()
  local sub, err = stream_notices.listen(self.db)
  if sub == nil then return nil, err end
  local sender = task.spawn(send_others, self, sub)
  local _, receive_err = receive(self, sub)
  sender:cancel()
  local _, send_err = sender:join()
  sub:close()
  self.is_well, self.all_until = false, nil
  self.follower:without_notices()
  if receive_err.code == "CLOSED" and send_err then receive_err = send_err end
  return nil, receive_err
end

return M
