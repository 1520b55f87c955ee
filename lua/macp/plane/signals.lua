-- Signals: ambient messages (Signal, Progress) become events of the run they belong to; those of no run are dropped.

local log = require("host.log")
local sys = require("host.sys")
local task = require("host.task")

local backoff = require("macp.core.backoff")
local messages = require("macp.protocol.messages")
local normalize = require("macp.plane.normalize")
local payloads = require("macp.plane.payloads")

---@class macp.plane.Signals
local Signals = {}
Signals.__index = Signals

local M = {}

---@param opts { client: table, owner: table, metrics: table|nil }
function M.new(opts)
  return setmetatable({ client = opts.client, owner = opts.owner, metrics = opts.metrics }, Signals)
end

-- The session that an ambient message is about.
local function session_of(env, payload)
  if env.session_id ~= "" then return env.session_id end
  return payload and (payload.correlationSessionId or payload.correlation_session_id)
end

local response_codec

-- The frame as it is stored: a redacted one is encoded again, so that its bytes hold nothing either.
local function redacted(redactor, env, bytes)
  local name = messages.core_payload(env.message_type)
  local codec = name and messages.codec(name)
  local fields = codec and codec:decode(env.payload)
  if fields == nil then
    local payload, changed = redactor:text(env.payload)
    if not changed then return bytes end
    env.payload = payload
  else
    if not redactor:fields(fields) then return bytes end
    env.payload = assert(codec:encode(fields))
  end
  response_codec = response_codec or messages.codec("macp.v1.WatchSignalsResponse", { enums = "number" })
  return (assert(response_codec:encode({ envelope = env })))
end

-- One ambient message. (yields while the run's batch is full)
local function take(self, env, bytes)
  local payload = payloads.core(env.message_type, env.payload)
  local run = self.owner:of_session(session_of(env, payload) or "")
  if run == nil or run:has_ended() then return true end
  local ok, err = run.writer:wait_room()
  if not ok then return nil, err end
  if run.gone or run:has_ended() then return true end
  local ms = sys.now_ms()
  if run.redactor then bytes = redacted(run.redactor, env, bytes) end
  run:receive_frame(ms, "stream-signal", nil, bytes)
  normalize.envelope(run, env, ms, nil)
  if self.metrics then
    self.metrics.inbound(env.mode, env.message_type)
    if env.message_type == "Signal" then self.metrics.signal(payload and payload.signalType or "") end
  end
  return true
end

-- One connection to WatchSignals. (yields)
local function watch_once(self, delays)
  local stream, err = self.client:watch("WatchSignals")
  if stream == nil then return nil, err end
  self.stream = stream
  local codec = messages.codec("macp.v1.WatchSignalsResponse", { enums = "number" })
  local failure
  while failure == nil do
    local chunk, read_err = stream:read_many(64)
    if chunk == nil then
      failure = read_err or { code = "RPC", message = "the stream ended" }
      break
    end
    delays:reset()
    for i = 1, #chunk do
      local decoded = codec:decode(chunk[i])
      if decoded and decoded.envelope then
        local ok, take_err = take(self, decoded.envelope, chunk[i])
        if not ok then failure = take_err end
      end
    end
  end
  self.stream = nil
  stream:cancel()
  return nil, failure
end

---Watches for ever, coming back after every end of the stream. (yields)
function Signals:work(child)
  local delays = backoff.new({ base_ms = 250, max_ms = 5000 })
  while not child:stopping() do
    local _, err = watch_once(self, delays)
    if child:stopping() then break end
    if err then log.info("signals.disconnected", { error = err.message }) end
    local slept, sleep_err = task.sleep(delays:next())
    if not slept then return nil, sleep_err end
  end
  return true
end

function Signals:stop()
  if self.stream then self.stream:cancel() end
end

return M
