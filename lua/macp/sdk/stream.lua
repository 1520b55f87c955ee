-- One StreamSession call: sends envelopes or subscribes, reads what the runtime has accepted.

local log = require("host.log")

local acks = require("macp.sdk.acks")
local messages = require("macp.protocol.messages")
local sdk_errors = require("macp.sdk.errors")

local Stream = {}
Stream.__index = Stream

local M = {}

---Wraps an open call.
function M.new(call)
  return setmetatable({
    call = call, is_closed = false, has_ended = false,
    request = messages.codec("macp.v1.StreamSessionRequest"),
    response = messages.codec("macp.v1.StreamSessionResponse", { defaults = true }),
  }, Stream)
end

local function write(self, frame)
  if self.is_closed then sdk_errors.raise("MacpSdkError", "stream is already closed") end
  local bytes, problem = self.request:encode(frame)
  if not bytes then sdk_errors.raise("MacpSessionError", problem.message) end
  local ok, err = self.call:write(bytes)
  if not ok then error(acks.transport_error(err), 0) end
end

---Sends an envelope; acceptance shows as its echo, refusal as an inline error. (yields)
function Stream:send(envelope) write(self, { envelope = envelope }) end

---Asks for the accepted history after an ordinal, then live. (yields)
function Stream:subscribe(session_id, after_sequence)
  write(self, { subscribe_session_id = session_id, after_sequence = after_sequence or 0 })
end

---fn is called with each inline error { code, message, session_id, message_id, details } that read() meets; the stream
---goes on. Without it they are logged. An error that fn raises comes out of read().
function Stream:on_inline_error(fn) self.inline_error = fn end

local function report_inline(self, failure)
  if self.inline_error then return self.inline_error(failure) end
  log.warn("sdk.stream.refused", { code = failure.code, message = failure.message })
end

---The next accepted envelope; nil at the end of the stream, again and again. (yields)
---Raises MacpTransportError once when the stream fails.
function Stream:read()
  while not self.has_ended do
    local bytes, err = self.call:read()
    if not bytes then
      self.has_ended = true
      if err then error(acks.transport_error(err), 0) end
      return nil
    end
    local frame, problem = self.response:decode(bytes)
    if not frame then
      self.has_ended = true
      self:cancel()
      sdk_errors.raise("MacpTransportError", "a frame does not decode: " .. problem.message, { code = "INTERNAL" })
    end
    if frame.envelope then return frame.envelope end
    if frame.error then report_inline(self, frame.error) end
  end
  return nil
end

---An iterator over read(). (yields)
function Stream:envelopes()
  return function() return self:read() end
end

---Half-closes: the runtime delivers what it has and ends the stream.
function Stream:close()
  if not self.is_closed then
    self.is_closed = true
    self.call:half_close()
  end
end

---Ends the call at once.
function Stream:cancel()
  self.is_closed = true
  self.call:cancel()
end

return M
