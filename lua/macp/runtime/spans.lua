-- Traces of the runtime: a span for every RPC of MACP, child of what the caller sends as `traceparent`; below it one for
-- every frame of a StreamSession, and one for the time that an answer waits for the journal. Handlers are wrapped only
-- when tracing is on: off, a call runs the same code as if this file were not there.

local rpc = require("host.rpc")
local task = require("host.task")

local trace_context = require("macp.telemetry.trace_context")
local tracer_module = require("macp.telemetry.tracer")

local STATUS = rpc.status
local SERVICE = "^/(macp%..+)/(.+)$"
local COMMIT = "journal commit"
local FRAME = "stream frame"

-- What makes the span of a server an error, by the conventions for RPC: what the caller did wrong does not.
local FAULTS = {
  [STATUS.UNKNOWN] = true, [STATUS.DEADLINE_EXCEEDED] = true, [STATUS.UNIMPLEMENTED] = true, [STATUS.INTERNAL] = true,
  [STATUS.UNAVAILABLE] = true, [STATUS.DATA_LOSS] = true,
}

local M = {}

-- The place of an error, unless it has gone through here already.
local function traceback(err)
  local text = tostring(err)
  return text:find("\nstack traceback:", 1, true) and text or debug.traceback(text, 2)
end

-- Runs fn(...) as what a span is about; what it raises is noted and raised again. before_end() runs when it returned or
-- raised. (yields as fn does)
local function within(span, before_end, fn, ...)
  local outer = task.scope()
  task.set_scope({ span, trace_id = span.trace_id })
  local ok, err = xpcall(fn, traceback, ...)
  task.set_scope(outer)
  if not ok then span:fail(err:match("^[^\n]*")) end
  before_end(ok)
  span:finish()
  if not ok then error(err, 0) end
end

-- A handler within a span. (yields as it does)
local function traced(tracer, path, handler)
  local service_name, method = path:match(SERVICE)
  local name = service_name .. "/" .. method
  return function(service, call, scope)
    local parent = trace_context.parse(call:header("traceparent"), call:header("tracestate"))
    local span = tracer:start(name, parent, { ["rpc.system"] = "grpc", ["rpc.service"] = service_name,
      ["rpc.method"] = method }, tracer_module.SERVER)
    if not span.sampled then return handler(service, call, scope) end
    within(span, function(ok)
      local status = call:status() or (not ok and STATUS.INTERNAL) -- which is how the service answers then
      if not status then return end
      span.attributes["rpc.grpc.status_code"] = status
      if FAULTS[status] and not span.status then span:set_status(tracer_module.ERROR) end
    end, handler, service, call, scope)
  end
end

-- The part of the log that answers wait with.
local function traced_log(tracer, log)
  return {
    wait = function(_, lsn)
      local parent = tracer_module.current()
      local span = tracer:child(COMMIT, parent)
      if span then span.start_ms = parent.start_ms + (span.began - parent.began) end -- finer than the wall clock
      local ok, err = log:wait(lsn)
      if span then
        if not ok then span:fail(err) end
        span:finish()
      end
      return ok, err
    end,
  }
end

-- What Send and streams ask of the acceptor, with what it was about: envelopes whose members have a bound.
local function traced_acceptor(acceptor)
  return {
    check_shape = function(_, envelope) return acceptor:check_shape(envelope) end,
    accept = function(_, identity, envelope, frame)
      local span = tracer_module.current()
      if span then
        local attributes = span.attributes
        attributes["macp.session_id"], attributes["macp.mode"] = envelope.session_id, envelope.mode
        attributes["macp.message_type"] = envelope.message_type
      end
      return acceptor:accept(identity, envelope, frame)
    end,
  }
end

-- Notes how an envelope was judged.
local function note(span, code, text)
  span.attributes["macp.error_code"] = code
  span:set_status(tracer_module.ERROR, text)
end

-- How Send comes to its verdict.
local function traced_judge(judge)
  return function(...)
    local verdict, code, text, details, is_anonymous = judge(...)
    local span = tracer_module.current()
    if span and verdict == nil then note(span, code, text) end
    return verdict, code, text, details, is_anonymous
  end
end

-- Frames of streams, each within a span below that of its stream.
local function traced_frames(tracer, on_frame)
  return function(streams, stream, bytes)
    local parent = tracer_module.current()
    local count = (stream.frames or 0) + 1
    stream.frames = count
    local span = tracer:child(FRAME, parent, { ["rpc.message.type"] = "RECEIVED", ["rpc.message.id"] = count })
    if span == nil then return on_frame(streams, stream, bytes) end
    span.start_ms = parent.start_ms + (span.began - parent.began)
    stream.refusal = nil
    within(span, function()
      local attributes = span.attributes
      attributes["macp.session_id"] = attributes["macp.session_id"] or stream.bound
      if stream.refusal then
        note(span, stream.refusal, stream.reason)
      elseif stream.finished and not span.status then
        span:set_status(tracer_module.ERROR, "the stream was ended")
      end
    end, on_frame, streams, stream, bytes)
  end
end

---Lets the RPCs of a service make spans, when the tracer is on.
---@param service table of macp.runtime.service
---@param tracer macp.Tracer|nil
function M.attach(service, tracer)
  if tracer == nil or not tracer.is_on then return end
  local streams = service.streams
  service.log, service.acceptor = traced_log(tracer, service.log), traced_acceptor(service.acceptor)
  service.judge = traced_judge(service.judge)
  streams.log, streams.acceptor = traced_log(tracer, streams.log), traced_acceptor(streams.acceptor)
  streams.on_frame = traced_frames(tracer, streams.on_frame)
  local wrapped = {}
  for path, handler in pairs(service.by_path) do
    wrapped[path] = path:find(SERVICE) and traced(tracer, path, handler) or handler
  end
  service.by_path = wrapped
end

return M
