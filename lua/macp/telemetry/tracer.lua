-- Spans: what was done, when, for how long and on whose behalf. A tracer that is off costs a comparison; one that is on
-- makes spans of sampled traces only and hands finished ones to an exporter, which never waits.
--
-- The current context of a task is the first item of its scope (host.task): { [1] = context, request_id = .., ... }.

local sys = require("host.sys")
local task = require("host.task")

local trace_context = require("macp.telemetry.trace_context")

local MAX_EVENTS = 128
local MAX_TEXT = 1024

local M = { INTERNAL = 1, SERVER = 2, CLIENT = 3, OK = 1, ERROR = 2 }

---@class macp.Span : macp.TraceContext
---@field parent_span_id string|nil
---@field name string
---@field kind integer
---@field start_ms number milliseconds since the epoch
---@field end_ms number|nil
---@field attributes table<string, string|number|boolean>
---@field events { name: string, ms: number, attributes: table }[]|nil
---@field dropped_events integer
---@field status integer|nil
---@field message string|nil
local Span = {}
Span.__index = Span

---@class macp.Tracer
---@field is_on boolean
local Tracer = {}
Tracer.__index = Tracer

---@param opts { exporter: macp.telemetry.Exporter|nil, sampler: function|nil }|nil without an exporter it is off:
--- contexts that come from outside are handed on, nothing is recorded
---@return macp.Tracer
function M.new(opts)
  opts = opts or {}
  return setmetatable({ exporter = opts.exporter, sampler = opts.sampler, is_on = opts.exporter ~= nil }, Tracer)
end

---The context of the calling task, set with its scope.
---@return macp.TraceContext|nil
function M.current()
  local scope = task.scope()
  return scope and scope[1]
end

---The headers that hand the current context on, nil when there is none.
---@return table<string, string>|nil
function M.headers()
  local context = M.current()
  return context and { traceparent = trace_context.format(context), tracestate = context.state }
end

---What headers (lower-case names) say about the caller's trace.
---@return macp.TraceContext|nil
function Tracer.extract(_, headers)
  local traceparent = headers.traceparent
  return traceparent and trace_context.parse(traceparent, headers.tracestate) or nil
end

---Begins a span. Of a trace that is not sampled it is a context only: it may be used alike and is not exported.
---@param name string few different ones
---@param parent macp.TraceContext|nil nil begins a trace
---@param attributes table<string, string|number|boolean>|nil kept
---@param kind integer|nil INTERNAL
---@return macp.Span
function Tracer:start(name, parent, attributes, kind)
  local trace_id = parent and parent.trace_id or trace_context.new_trace_id()
  local sampled = self.is_on and self.sampler(trace_id, parent)
  return setmetatable({
    tracer = self, trace_id = trace_id, span_id = trace_context.new_span_id(), sampled = sampled,
    state = parent and parent.state, parent_span_id = parent and parent.span_id, name = name,
    kind = kind or M.INTERNAL, attributes = attributes or {}, start_ms = sys.now_ms(), began = sys.mono_ms(),
    dropped_events = 0,
  }, Span)
end

---A child of a context that is recorded, or nil: for parts of work that are not worth a context of their own.
---@param parent macp.TraceContext|nil
---@return macp.Span|nil
function Tracer:child(name, parent, attributes, kind)
  if not self.is_on or parent == nil or not parent.sampled then return nil end
  return self:start(name, parent, attributes, kind)
end

---Makes a span again of what was stored of it, e.g. by another process.
---@param facts macp.Span trace_id, span_id, sampled, state, parent_span_id, name, kind, start_ms, attributes
---@return macp.Span
function Tracer:resume(facts)
  facts.tracer, facts.dropped_events, facts.attributes = self, 0, facts.attributes or {}
  facts.sampled = facts.sampled and self.is_on
  return setmetatable(facts, Span)
end

---Notes something that happened meanwhile.
---@param attributes table<string, string|number|boolean>
---@param ms number|nil when, now by default
function Span:event(name, attributes, ms)
  if not self.sampled then return end
  local events = self.events
  if events == nil then
    events = {}
    self.events = events
  end
  if #events >= MAX_EVENTS then
    self.dropped_events = self.dropped_events + 1
    return
  end
  events[#events + 1] = { name = name, ms = ms or sys.now_ms(), attributes = attributes }
end

---Says how it went: OK or ERROR with a reason.
function Span:set_status(status, message)
  self.status, self.message = status, message and tostring(message):sub(1, MAX_TEXT) or nil
end

---An error as span event `exception` and status.
---@param err table|string
function Span:fail(err)
  local message = type(err) == "table" and tostring(err.message) or tostring(err)
  self:set_status(M.ERROR, message)
  self:event("exception", { ["exception.type"] = type(err) == "table" and err.code and tostring(err.code) or "error",
    ["exception.message"] = self.message })
end

---Ends it and hands it to the exporter. May be called again.
---@param end_ms number|nil now by default
function Span:finish(end_ms)
  if self.end_ms or not self.sampled then return end
  self.end_ms = end_ms or (self.began and self.start_ms + (sys.mono_ms() - self.began)) or sys.now_ms()
  self.tracer.exporter:add(self)
end

return M
