local task = require("host.task")

local sampler = require("macp.telemetry.sampler")
local spans = require("macp.runtime.spans")
local tracer = require("macp.telemetry.tracer")

local SEND = "/macp.v1.MACPRuntimeService/Send"
local HEALTH = "/grpc.health.v1.Health/Check"
local PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-"

local function call_of(headers) return { header = function(_, name) return headers[name] end } end

local function service_of(handler)
  return {
    by_path = { [SEND] = handler, [HEALTH] = handler }, log = { wait = function() return true end },
    acceptor = { check_shape = function() return true end },
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
      local by_path, log, acceptor = service.by_path, service.log, service.acceptor
      spans.attach(service, off or nil)
      assert.is_true(rawequal(by_path, service.by_path) and rawequal(log, service.log)
        and rawequal(acceptor, service.acceptor) and rawequal(handler, service.by_path[SEND]))
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
    assert.same({ tracer.ERROR, "a bug" }, { made[1].status, made[1].message })
    assert.is_nil(task.scope())
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
