-- A collector of traces on loopback: takes OTLP over HTTP, decodes it, and remembers every span.

local crypto = require("host.crypto")
local http = require("host.http")

local messages = require("macp.protocol.messages")

local eventually = require("spec.support.eventually")

local Collector = {}
Collector.__index = Collector

local M = {}

local function values_of(list)
  local values = {}
  for _, pair in ipairs(list or {}) do
    local value = pair.value
    if value.string_value ~= nil then values[pair.key] = value.string_value
    elseif value.bool_value ~= nil then values[pair.key] = value.bool_value
    elseif value.int_value ~= nil then values[pair.key] = tonumber(value.int_value)
    else values[pair.key] = value.double_value end
  end
  return values
end

local function keep(self, resource, scope, span)
  local events = {}
  for i, event in ipairs(span.events or {}) do
    events[i] = { name = event.name, attributes = values_of(event.attributes), time = tostring(event.time_unix_nano) }
  end
  self.spans[#self.spans + 1] = {
    resource = resource, scope = scope, name = span.name, kind = span.kind, trace_id = crypto.hex(span.trace_id),
    span_id = crypto.hex(span.span_id), state = span.trace_state,
    parent_span_id = span.parent_span_id and crypto.hex(span.parent_span_id) or "",
    attributes = values_of(span.attributes), events = events, start = tostring(span.start_time_unix_nano),
    stop = tostring(span.end_time_unix_nano), status = span.status or {}, dropped_events = span.dropped_events_count,
  }
end

---@param answer nil|fun(request: table, count: integer): integer|nil, table|nil, string|nil status, headers, body of the
--- answer; nil: 200 and the spans are kept
function M.start(answer)
  local self = setmetatable({ spans = {}, requests = {} }, Collector)
  local codec = messages.codec("opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest", { enums = "number",
    defaults = false })
  self.server = assert(http.listen({ host = "127.0.0.1", port = 0 }))
  self.url = "http://127.0.0.1:" .. self.server:port()
  self.server:serve(function(req, res)
    local request = { method = req.method, path = req.path, headers = req.headers, body = tostring(req.body) }
    self.requests[#self.requests + 1] = request
    local status, headers, body
    if answer then status, headers, body = answer(request, #self.requests) end
    if status == nil or status == 200 then
      local decoded = assert(codec:decode(request.body))
      for _, group in ipairs(decoded.resource_spans) do
        for _, made in ipairs(group.scope_spans) do
          for _, span in ipairs(made.spans) do keep(self, values_of(group.resource.attributes), made.scope, span) end
        end
      end
    end
    res:send(status or 200, headers or { ["content-type"] = "application/x-protobuf" }, body or "")
  end)
  return self
end

---Spans with this name, of this run if one is given.
function Collector:named(name, run_id)
  local found = {}
  for _, span in ipairs(self.spans) do
    if span.name == name and (run_id == nil or span.attributes.run_id == run_id) then found[#found + 1] = span end
  end
  return found
end

---Waits for a span with this name; returns it. (yields)
function Collector:await(name, run_id)
  return eventually(function() return self:named(name, run_id)[1] end, 10000, "a span " .. name)
end

---(yields)
function Collector:close() self.server:close() end

return M
