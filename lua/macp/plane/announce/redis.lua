-- Notices over Redis: what was stored is published there, one message per event, as other control planes do. For this
-- one a message says which run to look at, and nothing else: rows are read from the database, so neither a lost message
-- nor a false one reaches a client. While Redis is away streams of other processes' runs look every second.

local log = require("host.log")
local redis = require("host.redis")
local task = require("host.task")

local errors = require("macp.core.errors")
local json = require("macp.core.json")
local repeats = require("macp.core.repeats")
local follower = require("macp.plane.follower")

local CHANNEL = "macp:stream-hub"
local QUIET_MS = 5000 -- after this long without a word the server is asked for one; then it has as long again
local CONNECT_MS = 5000

local repeated = repeats.new({ lines = 3 }) -- messages that cannot be sent

---@class macp.plane.Announce.Redis
---@field is_well boolean messages arrive and are sent
local Redis = {}
Redis.__index = Redis

local M = { CHANNEL = CHANNEL }

---@param deps { name: string, hub: macp.plane.Hub, follower: macp.plane.Follower, redis_url: string }
function M.new(deps)
  return setmetatable({
    url = deps.redis_url, hub = deps.hub, follower = deps.follower, out = nil, is_well = false, has_missed = false,
    head = '{"_origin":' .. json.encode(deps.name) .. ',"_runId":',
  }, Redis)
end

---A message of this process.
---@param data string JSON text
function M.message(head, run_id, event, data)
  return head .. '"' .. run_id .. '","event":"' .. event .. '","data":' .. data .. "}"
end

local message = M.message

---Nothing of this goes into the unit of work that stores a batch.
function Redis.add(_) return true end

-- Others have missed something: they look at everything once it can be said.
local function publish(self, text)
  local out = self.out
  if out == nil then
    self.has_missed = true
    return
  end
  local ok, err = true, nil
  if self.has_missed then ok, err = out:send("PUBLISH", CHANNEL, message(self.head, "", "missed", "{}")) end
  if ok then
    self.has_missed = false
    ok, err = out:send("PUBLISH", CHANNEL, text)
  end
  if not ok then
    self.has_missed = true
    repeated:tell("warn", "stream.publish_failed", err.code, { error = err.message })
  end
end

---The batch is stored: tells what of.
function Redis:stored(batch)
  for _, entry in ipairs(batch.runs) do
    local id, ends = entry.run.id, false
    for i = 1, entry.n do
      publish(self, message(self.head, id, "canonical_event", entry.documents[i]))
      ends = ends or follower.ENDS[entry.types[i]]
    end
    if ends then publish(self, message(self.head, id, "complete", '{"runId":"' .. id .. '"}')) end
  end
end

---A message has arrived. What concerns no stream here is not even decoded.
---@param text string
function Redis:receive(text)
  if text:sub(1, #self.head) == self.head then return end -- our own
  local run_id = text:match('"_runId":%s*"([%x%-]*)"')
  if run_id == "" then self.follower:look_at_all() end
  local topic = run_id and self.hub.topics[run_id]
  if topic == nil then return end
  local told = json.decode(text)
  if type(told) ~= "table" or told._runId ~= run_id then return end
  local seq = type(told.data) == "table" and told.data.seq
  if told.event == "canonical_event" and type(seq) == "number" then
    self.hub:notice(run_id, seq)
  elseif told.event == "complete" and topic.followed then
    self.follower:look_at(topic)
  end
end

-- The next reply of a connection, asking for one when none comes. (yields)
local function next_reply(conn, shown)
  for _, is_asked in ipairs({ false, true }) do
    local reply, err = task.with_deadline(QUIET_MS, conn.next, conn)
    if reply ~= nil and type(reply) == "table" and reply.error then
      return nil, { code = "DENIED", message = "Redis at " .. shown .. " refuses: " .. reply.error }
    end
    if reply ~= nil then return reply end
    if err.code ~= "TIMEOUT" then return nil, err end
    if not is_asked then
      local ok, send_err = conn:send("PING")
      if not ok then return nil, send_err end
    end
  end
  return nil, { code = "TIMEOUT", message = "Redis at " .. shown .. " does not answer" }
end

-- Takes what the server says to published messages; whoever listens is told when that ends. (yields)
local function drain(conn, shown, listening)
  local reply, err
  repeat reply, err = next_reply(conn, shown) until reply == nil
  listening:close()
  return nil, err
end

-- Subscribes, and receives. (yields)
local function listen(self, conn, shown)
  local ok, err = conn:send("SUBSCRIBE", CHANNEL)
  if not ok then return nil, err end
  while true do
    local reply
    reply, err = next_reply(conn, shown)
    if reply == nil then return nil, err end
    if type(reply) == "table" and reply[1] == "message" then
      self:receive(reply[3])
    elseif type(reply) == "table" and reply[1] == "subscribe" then
      self.is_well = true
      log.info("stream.redis_ready", { server = shown, channel = CHANNEL })
      self.follower:rely_on_notices()
    end
  end
end

-- Both connections, until one of them fails. (yields)
local function converse(self, listening, sending, shown)
  self.out = sending
  local drained = task.spawn(drain, sending, shown, listening)
  local _, err = listen(self, listening, shown)
  self.out = nil
  sending:close()
  local _, send_err = drained:join()
  if err.code == "CLOSED" and send_err then err = send_err end
  if self.is_well then
    self.is_well, self.has_missed = false, true
    log.warn("stream.redis_lost", { server = shown, error = err.message })
  end
  self.follower:without_notices()
  return nil, err
end

---Whether Redis lets this process in. One that is away may come later. (yields)
---@return true|nil
---@return table|nil err INVALID, DENIED: not as it is configured
function Redis:prove()
  local conn, err = redis.connect(self.url, { timeout_ms = CONNECT_MS })
  if conn then
    conn:close()
  elseif err.code == "DENIED" or err.code == "INVALID" then
    return nil, errors.new("VALIDATION_ERROR", nil, "REDIS_URL: " .. err.message)
  else
    log.warn("stream.redis_away", { error = err.message })
  end
  return true
end

---Connects, and receives until that fails. (yields)
---@return nil
---@return table err
function Redis:work()
  local shown, err = redis.check(self.url)
  if shown == nil then return nil, err end
  local listening
  listening, err = redis.connect(self.url, { timeout_ms = CONNECT_MS })
  if listening == nil then return nil, err end
  local sending
  sending, err = redis.connect(self.url, { timeout_ms = CONNECT_MS })
  if sending == nil then
    listening:close()
    return nil, err
  end
  local _, lost = converse(self, listening, sending, shown)
  listening:close()
  sending:close()
  return nil, lost
end

return M
