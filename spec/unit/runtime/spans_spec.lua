local task = require("host.task")

local sampler = require("macp.telemetry.sampler")
local spans = require("macp.runtime.spans")
local tracer = require("macp.telemetry.tracer")

local SEND = "/macp.v1.MACPRuntimeService/Send"
local HEALTH = "/grpc.health.v1.Health/Check"
local PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-"

local function call_of(headers, status)
  return { header = function(_, name) return headers[name] end, status = function() return status end }
end

local function pass() return true end

local function service_of(handler)
  return {
    by_path = { [SEND] = handler, [HEALTH] = handler }, log = { wait = pass }, judge = pass,
    acceptor = { check_shape = pass }, streams = { on_frame = pass, log = { wait = pass }, acceptor = {} },
  }
end

describe("spans of the runtime", function()
  local made, recording

  before_each(function()
    made = {}
    recording = tracer.new({ sampler = sampler.new("parentbased_always_on", 1),
      exporter = { add = function(_, span) made[#made + 1] = span end } })
  end)

  it("cost nothing when tracing is off: every part stays what it was", function()
    for _, off in ipairs({ tracer.new(), false }) do
      local handler = function() end
      local service = service_of(handler)
      local before, streams_before = {}, {}
      for name, part in pairs(service) do before[name] = part end
      for name, part in pairs(service.streams) do streams_before[name] = part end
      spans.attach(service, off or nil)
      for name, part in pairs(before) do assert.is_true(rawequal(part, service[name]), name) end
      for name, part in pairs(streams_before) do assert.is_true(rawequal(part, service.streams[name]), name) end
      assert.is_true(rawequal(handler, service.by_path[SEND]))
    end
  end)

  it("are made for calls of MACP, as far as the caller wants", function()
    local handler = function() end
    local service = service_of(handler)
    spans.attach(service, recording)
    assert.is_true(rawequal(handler, service.by_path[HEALTH]))
    service.by_path[SEND](service, call_of({ traceparent = PARENT .. "00" }), {})
    assert.same({}, made)
    service.by_path[SEND](service, call_of({ traceparent = PARENT .. "01", tracestate = "a=b" }), {})
    service.by_path[SEND](service, call_of({ traceparent = "nonsense" }), {})
    assert.equal(2, #made)
    assert.same({ "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "a=b" },
      { made[1].trace_id, made[1].parent_span_id, made[1].state })
    assert.is_nil(made[2].parent_span_id)
    assert.is_nil(task.scope())
  end)

  it("tell of a handler that raised, and raise again", function()
    local service = service_of(function() error("a bug", 0) end)
    spans.attach(service, recording)
    local ok, err = pcall(service.by_path[SEND], service, call_of({}), {})
    assert.is_false(ok)
    assert.truthy(tostring(err):find("a bug", 1, true))
    assert.same({ tracer.ERROR, "a bug", 13 },
      { made[1].status, made[1].message, made[1].attributes["rpc.grpc.status_code"] })
    assert.is_nil(task.scope())
  end)

  for status, expected in pairs({ [0] = false, [1] = false, [5] = false, [8] = false, [16] = false, [2] = tracer.ERROR,
    [4] = tracer.ERROR, [12] = tracer.ERROR, [13] = tracer.ERROR, [14] = tracer.ERROR, [15] = tracer.ERROR }) do
    it("tell the status of a call, and whose fault it is: " .. status, function()
      local service = service_of(function() end)
      spans.attach(service, recording)
      service.by_path[SEND](service, call_of({}, status), {})
      assert.equal(status, made[1].attributes["rpc.grpc.status_code"])
      assert.equal(expected, made[1].status or false)
    end)
  end

  it("tell nothing of the status of a call that goes on", function()
    local service = service_of(function() end)
    spans.attach(service, recording)
    service.by_path[SEND](service, call_of({}), {})
    assert.is_nil(made[1].attributes["rpc.grpc.status_code"])
  end)

  it("tell of a frame that raised, within the span of its stream", function()
    local service = service_of(function(service) service.streams.on_frame(service.streams, { bound = "s" }, "") end)
    service.streams.on_frame = function() error("a bug", 0) end
    spans.attach(service, recording)
    assert.is_false((pcall(service.by_path[SEND], service, call_of({}), {})))
    assert.same({ "stream frame", made[2].span_id, "a bug", "s", "a bug" },
      { made[1].name, made[1].parent_span_id, made[1].message, made[1].attributes["macp.session_id"], made[2].message })
    assert.is_nil(task.scope())
  end)

  it("are not made for the frames of a stream that is not sampled", function()
    local frames = 0
    local service = service_of(function(service) service.streams.on_frame(service.streams, {}, "") end)
    service.streams.on_frame = function() frames = frames + 1 end
    spans.attach(service, recording)
    service.by_path[SEND](service, call_of({ traceparent = PARENT .. "00" }), {})
    assert.same({}, made)
    assert.equal(1, frames)
  end)

  it("tell of a journal that failed", function()
    local service
    service = service_of(function() return service.log:wait(7) end)
    service.log = { wait = function(_, lsn) return nil, { code = "IO", message = "lsn " .. lsn .. " is lost" } end }
    spans.attach(service, recording)
    local ok, err = service.log:wait(7) -- outside of a call: no span
    assert.same({ nil, "lsn 7 is lost" }, { ok, err.message })
    assert.same({}, made)
    service.by_path[SEND](service, call_of({}), {})
    assert.same({ "journal commit", "lsn 7 is lost", made[2].span_id },
      { made[1].name, made[1].message, made[1].parent_span_id })
  end)
end)
