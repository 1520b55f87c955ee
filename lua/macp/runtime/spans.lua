-- Traces of the runtime: a span for every RPC of MACP, child of what the caller sends as `traceparent`, and one below it
-- for the time that an answer waits for the journal. Handlers are wrapped only when tracing is on: off, a call runs the
-- same code as if this file were not there.

local task = require("host.task")

local trace_context = require("macp.telemetry.trace_context")
local tracer_module = require("macp.telemetry.tracer")

local SERVICE = "^/(macp%..+)/(.+)$"
local COMMIT = "journal commit"

local M = {}

-- A handler within a span. (yields as it does)
local function traced(tracer, path, handler)
  local service_name, method = path:match(SERVICE)
  local name = service_name .. "/" .. method
  return function(service, call, scope)
    local parent = trace_context.parse(call:header("traceparent"), call:header("tracestate"))
    local span = tracer:start(name, parent, { ["rpc.system"] = "grpc", ["rpc.service"] = service_name,
      ["rpc.method"] = method }, tracer_module.SERVER)
    if not span.sampled then return handler(service, call, scope) end
    task.set_scope({ span, trace_id = span.trace_id })
    local ok, err = xpcall(handler, debug.traceback, service, call, scope)
    task.set_scope(nil)
    if not ok then span:fail(tostring(err):match("^[^\n]*")) end
    span:finish()
    if not ok then error(err, 0) end
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

-- What Send asks of the acceptor, with what it was about and how it was judged.
local function traced_acceptor(acceptor)
  return {
    check_shape = function(_, envelope) return acceptor:check_shape(envelope) end,
    accept = function(_, identity, envelope, frame)
      local verdict, code, text, details = acceptor:accept(identity, envelope, frame)
      local span = tracer_module.current()
      if span then
        local attributes = span.attributes
        attributes["macp.session_id"], attributes["macp.mode"] = envelope.session_id, envelope.mode
        attributes["macp.message_type"], attributes["macp.error_code"] = envelope.message_type, code
        if verdict == nil then span:set_status(tracer_module.ERROR, text) end
      end
      return verdict, code, text, details
    end,
  }
end

---Lets the RPCs of a service make spans, when the tracer is on.
---@param service table of macp.runtime.service
---@param tracer macp.Tracer|nil
function M.attach(service, tracer)
  if tracer == nil or not tracer.is_on then return end
  service.log, service.acceptor = traced_log(tracer, service.log), traced_acceptor(service.acceptor)
  local wrapped = {}
  for path, handler in pairs(service.by_path) do
    wrapped[path] = path:find(SERVICE) and traced(tracer, path, handler) or handler
  end
  service.by_path = wrapped
end

return M
