-- Spans as an OTLP request: protobuf, made in pieces so that a large batch does not hold up everything else.

local crypto = require("host.crypto")
local task = require("host.task")

local PIECE = 64 -- spans between two turns of the loop
local REQUEST = "opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest"
local RESPONSE = "opentelemetry.proto.collector.trace.v1.ExportTraceServiceResponse"

---@class macp.telemetry.Otlp
local Otlp = {}
Otlp.__index = Otlp

local M = { CONTENT_TYPE = "application/x-protobuf" }

local function any_value(value)
  local kind = type(value)
  if kind == "string" then return { string_value = value } end
  if kind == "boolean" then return { bool_value = value } end
  if kind == "number" and value % 1 == 0 and value > -2 ^ 53 and value < 2 ^ 53 then return { int_value = value } end
  if kind == "number" then return { double_value = value } end
  return { string_value = tostring(value) }
end

local function key_values(attributes)
  local names, list = {}, {}
  for name in pairs(attributes) do names[#names + 1] = name end
  table.sort(names)
  for i, name in ipairs(names) do list[i] = { key = name, value = any_value(attributes[name]) } end
  return list
end

-- Nanoseconds are beyond what a number holds exactly: the codec takes them as text.
local function nanoseconds(ms)
  local whole = math.floor(ms)
  return string.format("%d%06d", whole, (ms - whole) * 1e6)
end

local function span_message(span)
  local events
  if span.events then
    events = {}
    for i, event in ipairs(span.events) do
      events[i] = { time_unix_nano = nanoseconds(event.ms), name = event.name,
        attributes = key_values(event.attributes) }
    end
  end
  return {
    trace_id = crypto.unhex(span.trace_id), span_id = crypto.unhex(span.span_id), trace_state = span.state,
    parent_span_id = span.parent_span_id and crypto.unhex(span.parent_span_id), name = span.name, kind = span.kind,
    start_time_unix_nano = nanoseconds(span.start_ms), end_time_unix_nano = nanoseconds(span.end_ms),
    attributes = key_values(span.attributes), events = events,
    dropped_events_count = span.dropped_events > 0 and span.dropped_events or nil,
    status = span.status and { code = span.status, message = span.message } or nil, flags = 1,
  }
end

---@param opts { pool: table, resource: table<string, string>, name: string, version: string }
--- pool: of host.proto, with the messages of OTLP; name, version: of the library that makes the spans
---@return macp.telemetry.Otlp
function M.new(opts)
  return setmetatable({
    request = opts.pool:codec(REQUEST, { enums = "number", bytes = "raw" }),
    response = opts.pool:codec(RESPONSE, { enums = "number", bytes = "raw" }),
    resource = { attributes = key_values(opts.resource) }, scope = { name = opts.name, version = opts.version },
  }, Otlp)
end

---The body of a request. (yields when there are many spans)
---@param spans macp.Span[] finished ones
---@return string|nil
---@return table|nil err
function Otlp:encode(spans)
  local pieces, at = {}, 1
  while at <= #spans do
    local list = {}
    for i = at, math.min(at + PIECE - 1, #spans) do list[#list + 1] = span_message(spans[i]) end
    -- Messages that follow each other are one message with all their items.
    local bytes, err = self.request:encode({ resource_spans = { {
      resource = self.resource, scope_spans = { { scope = self.scope, spans = list } },
    } } })
    if bytes == nil then return nil, err end
    pieces[#pieces + 1] = bytes
    at = at + PIECE
    if at <= #spans then task.sleep(0) end
  end
  return table.concat(pieces)
end

---What a collector answered with 200.
---@return integer rejected spans that it did not take
---@return string|nil reason
function Otlp:rejected(body)
  local answer = body and body ~= "" and self.response:decode(body)
  local partial = answer and answer.partial_success
  if not partial then return 0 end
  return tonumber(partial.rejected_spans) or 0, partial.error_message ~= "" and partial.error_message or nil
end

return M
