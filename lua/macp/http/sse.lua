-- Server-sent events: frames, and the open streams of one application with one heartbeat timer for all of them.

local json = require("host.json")
local sys = require("host.sys")
local task = require("host.task")

local time = require("macp.core.time")
local caller = require("macp.http.caller")
local stream_limits = require("macp.http.stream_limits")

local TICK_MS = 250
local DEFAULT_HEARTBEAT_MS = 15000
local SHUTDOWN_RETRY_MS = 2000

local HEADERS = {
  ["content-type"] = "text/event-stream",
  ["cache-control"] = "private, no-cache, no-store, must-revalidate, max-age=0, no-transform",
  ["pragma"] = "no-cache",
  ["x-accel-buffering"] = "no",
  ["connection"] = "keep-alive",
}

local GONE = { code = "CLOSED", message = "the client is gone" }

local M = {}

---One frame. data is one line (JSON text has no line breaks); other text may have several.
---@param name string
---@param id string|number|nil
---@param data string
---@return string
function M.frame(name, id, data)
  if data:find("[\r\n]") then data = data:gsub("\r\n?", "\n"):gsub("\n", "\ndata: ") end
  if id == nil then return "event: " .. name .. "\ndata: " .. data .. "\n\n" end
  return "event: " .. name .. "\nid: " .. id .. "\ndata: " .. data .. "\n\n"
end

---@class macp.EventStream one client
---@field res table
---@field on_end fun()|nil set by whoever feeds it: called when the stream ends without the feeder or the client; must not
--- yield
local Stream = {}
Stream.__index = Stream

---Sends a frame without waiting.
---@return boolean
---@return "full"|"closed"|nil
function Stream:offer(frame)
  return self.res:offer(frame)
end

---Waits until the client has taken everything that was sent. (yields)
---@return true|nil
---@return table|nil err the client is gone
function Stream:wait_drained()
  return self.res:wait_drained()
end

function Stream:closed()
  return self.is_closed or self.res:closed()
end

---Ends the reply. May be called again.
function Stream:close()
  if self.is_closed then return end
  self.is_closed = true
  self.streams:forget(self)
  if not self.res:closed() then self.res:finish() end
end

-- Ends the reply with the reason, and tells whoever feeds it, who may be waiting for something to send.
local function turn_away(stream, reason)
  stream:offer(M.frame("error", nil, reason))
  stream:close()
  if stream.on_end then stream.on_end() end
end

---Sends a frame (text or host.bytes), waiting while the client is slow. (yields)
---@return true|nil
---@return table|nil err the client is gone, or may be told no more
function Stream:send(frame)
  local reason = caller.refusal(self.actor, sys.now_ms())
  if reason then
    turn_away(self, reason)
    return nil, GONE
  end
  return self.res:write(frame)
end

---@class macp.EventStreams the open streams of an application
local Streams = {}
Streams.__index = Streams

---@param metrics macp.Metrics|nil
---@param limits { per_caller: integer|nil, per_subject: integer|nil }|nil of http/stream_limits.lua
---@return macp.EventStreams
function M.new(metrics, limits)
  local gauge = metrics and metrics:gauge("active_sse_connections", "Open event streams.")
  return setmetatable({ open_streams = {}, count = 0, gauge = gauge, limits = stream_limits.new(limits or {}) },
    Streams)
end

local function beat(self)
  local now, now_ms, frame = sys.mono_ms(), sys.now_ms(), nil
  for stream in pairs(self.open_streams) do
    local reason = caller.refusal(stream.actor, now_ms)
    if stream.res:closed() then
      stream:close()
    elseif reason then
      turn_away(stream, reason)
    elseif now >= stream.beat_at then
      frame = frame or M.frame("heartbeat", nil, json.encode({ ts = time.iso_now() }))
      -- A client that is behind gets no heartbeat: what it has to read is proof of life enough.
      stream.res:offer(frame)
      stream.beat_at = now + stream.heartbeat_ms
    end
  end
end

local function remember(self, stream, ctx, subject)
  self.open_streams[stream] = true
  self.count = self.count + 1
  if self.gauge then self.gauge:inc() end
  if self.ticker == nil then
    self.ticker = task.every(TICK_MS, function() beat(self) end)
  end
  local crowded = self.limits:enter(stream, ctx, subject)
  for i = 1, #crowded, 2 do
    if not crowded[i].is_closed then turn_away(crowded[i], crowded[i + 1]) end
  end
end

function Streams:forget(stream)
  if not self.open_streams[stream] then return end
  self.open_streams[stream] = nil
  self.limits:leave(stream)
  self.count = self.count - 1
  if self.gauge then self.gauge:dec() end
  if self.count == 0 and self.ticker then
    local ticker = self.ticker
    self.ticker = nil
    ticker:stop()
  end
end

---Tells every client that the server goes away and when to come back, then ends the streams.
function Streams:shutdown()
  local frame = "event: shutdown\nretry: " .. SHUTDOWN_RETRY_MS .. "\ndata: {}\n\n"
  local list = {}
  for stream in pairs(self.open_streams) do list[#list + 1] = stream end
  for _, stream in ipairs(list) do
    stream.res:offer(frame)
    stream:close()
  end
end

---Starts an event stream as the reply of a raw route. The owner closes it; a client that left is noticed by the
---heartbeat timer at the latest. It ends with an event `error` when the caller's key expires or is taken away, and when
---it is the oldest of more streams than may be open.
---@param ctx macp.Context
---@param opts { heartbeat_ms: number|nil, subject: string|nil }|nil subject: what streams are counted by
---@return macp.EventStream|nil
---@return table|nil err the client is gone
function M.open(ctx, opts)
  local headers = {}
  for name, value in pairs(HEADERS) do headers[name] = value end
  ctx:add_headers(headers, 200)
  ctx.started = true
  if not ctx.res:start(200, headers) then return nil, GONE end
  local ok, err = ctx.res:write("\n")
  if not ok then return nil, err end
  local heartbeat_ms = opts and opts.heartbeat_ms or DEFAULT_HEARTBEAT_MS
  local stream = setmetatable({
    res = ctx.res, streams = ctx.streams, heartbeat_ms = heartbeat_ms, beat_at = sys.mono_ms() + heartbeat_ms,
    is_closed = false, actor = ctx.actor, on_end = nil,
  }, Stream)
  remember(ctx.streams, stream, ctx, opts and opts.subject)
  return stream
end

return M
