local crypto = require("host.crypto")

local json = require("macp.core.json")

local collector = require("spec.support.collector")
local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")
local receiver = require("spec.support.receiver")

local TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
local CALLER = { traceparent = "00-" .. TRACE .. "-" .. PARENT .. "-01", tracestate = "vendor=1" }

describe("tracing of the plane", function()
  local rig, traces, stop_database

  setup(function()
    stop_database = plane_rig.share_database()
    traces = collector.start()
    rig = plane_rig.start({ env = { OTEL_ENABLED = "true", OTEL_EXPORTER_OTLP_ENDPOINT = traces.url,
      OTEL_BSP_SCHEDULE_DELAY = "50", OTEL_EXPORTER_OTLP_HEADERS = "x-key=a%20b",
      OTEL_RESOURCE_ATTRIBUTES = "deployment.environment=spec", LAUNCHER_ENABLED = "true",
      LAUNCHER_BEARER_TOKEN = "boss", SESSION_DISCOVERY_ENABLED = "false" } })
  end)

  teardown(function()
    rig:destroy()
    traces:close()
    stop_database()
  end)

  -- A run from POST /runs to its end.
  local function play(headers)
    local session_id = crypto.uuid4()
    local status, made = rig:post("/runs", plane_rig.descriptor(session_id), headers)
    assert.equal(202, status)
    rig:play(session_id)
    rig:await(made.runId, "completed")
    return made, traces:await("run.lifecycle", made.runId)
  end

  it("continues the caller's trace from the request to the end of the run", function()
    local made, root = play(CALLER)
    assert.equal(TRACE, made.traceId)
    local request = traces:await("POST /runs")
    assert.same({ TRACE, PARENT, 2 }, { request.trace_id, request.parent_span_id, request.kind })
    assert.equal("vendor=1", request.state)
    assert.same({ TRACE, request.span_id }, { root.trace_id, root.parent_span_id })
    assert.equal("vendor=1", root.state)
    for _, name in ipairs({ "runtime.initialize", "runtime.await_session_open", "stream.handle_raw_event",
      "run-event.persist", "run-event.emit" }) do
      local span = traces:await(name, made.runId)
      assert.same({ TRACE, root.span_id }, { span.trace_id, span.parent_span_id }, name)
    end
  end)

  it("tells of a run what its table of spans asks for", function()
    local made, root = play()
    assert.same({ run_id = made.runId, runtime_kind = "rust", mode_name = "macp.mode.decision.v1",
      execution_mode = "live", ["run.terminal_status"] = "completed" }, root.attributes)
    assert.equal(1, root.status.code)
    assert.is_true(#root.start == 19 and root.start < root.stop)
    local run = select(2, rig:get("/runs/" .. made.runId))
    assert.equal(root.trace_id, run.traceId)
    local finalized
    for _, event in ipairs(root.events) do if event.name == "decision.finalized" then finalized = event end end
    assert.equal("decision.selected", finalized.attributes.action)
    assert.is_true(finalized.attributes.seq > 0)
    local opened = traces:await("runtime.await_session_open", made.runId)
    assert.same({ run_id = made.runId, runtime_kind = "rust", session_id = run.runtimeSessionId }, opened.attributes)
    local handled = traces:await("stream.handle_raw_event", made.runId)
    assert.equal("stream-envelope", handled.attributes["macp.raw_kind"])
    assert.equal(run.runtimeSessionId, handled.attributes["macp.session_id"])
    assert.is_string(handled.attributes["macp.message_type"])
    assert.equal(made.runId, handled.attributes.run_id)
    local asked = traces:await("runtime.initialize", made.runId).attributes
    assert.same({ run_id = made.runId, runtime_kind = "rust", mode_name = "macp.mode.decision.v1" }, asked)
    local stored = traces:await("run-event.persist", made.runId).attributes
    assert.same({ made.runId, "number", "string" },
      { stored.run_id, type(stored["macp.event_count"]), type(stored["macp.raw_kind"]) })
    local told = traces:await("run-event.emit", made.runId).attributes
    assert.same({ made.runId, "number" }, { told.run_id, type(told["macp.event_count"]) })
    local calls = traces:named("macp.v1.MACPRuntimeService/GetSession")
    assert.is_true(#calls > 0)
    assert.equal(3, calls[1].kind)
    assert.equal("GetSession", calls[1].attributes["rpc.method"])
  end)

  it("names the service, the library and what the settings add", function()
    local span = select(2, play())
    assert.equal("macp-control-plane", span.resource["service.name"])
    assert.equal("spec", span.resource["deployment.environment"])
    assert.equal("macp-control-plane", span.scope.name)
    assert.equal("a b", traces.requests[1].headers["x-key"])
    assert.equal("/v1/traces", traces.requests[1].path)
    assert.equal("application/x-protobuf", traces.requests[1].headers["content-type"])
  end)

  it("stamps the events of the run with its span, and tells the same at /traces", function()
    local made, root = play()
    for _, event in ipairs(rig:events(made.runId)) do
      assert.same({ root.trace_id, root.span_id }, { event.trace.traceId, event.trace.spanId })
    end
    local _, trace = rig:get("/runs/" .. made.runId .. "/traces")
    assert.same({ root.trace_id, root.span_id, 1 }, { trace.traceId, trace.lastSpanId, trace.spanCount })
  end)

  it("says what went wrong with a run that failed", function()
    local session_id = crypto.uuid4()
    local body = plane_rig.descriptor(session_id)
    body.session.modeName = "no.such.mode.v1"
    local _, made = rig:post("/runs", body)
    rig:await(made.runId, "failed")
    local root = traces:await("run.lifecycle", made.runId)
    assert.equal(2, root.status.code)
    assert.equal("the runtime does not support no.such.mode.v1", root.status.message)
    assert.equal("exception", root.events[1].name)
    assert.equal("MODE_NOT_SUPPORTED", root.events[1].attributes["exception.type"])
    local span = traces:await("runtime.initialize", made.runId)
    assert.equal(2, span.status.code)
  end)

  it("hands the trace to the receivers of webhooks", function()
    local hook = receiver.start()
    local status = rig:post("/webhooks", { url = hook.url, secret = ("s"):rep(16), events = { "run.completed" } })
    assert.equal(201, status)
    local made, root = play(CALLER)
    hook:await(1)
    local span = traces:await("webhook.deliver", made.runId)
    assert.same({ root.trace_id, root.span_id }, { span.trace_id, span.parent_span_id })
    assert.equal("00-" .. TRACE .. "-" .. span.span_id .. "-01", hook.requests[1].headers.traceparent)
    assert.equal("vendor=1", hook.requests[1].headers.tracestate)
    assert.equal(200, span.attributes["http.response.status_code"])
    hook:close()
  end)

  it("leaves a trace alone that its caller does not record", function()
    local before = #traces:named("run.lifecycle")
    local session_id = crypto.uuid4()
    local _, made = rig:post("/runs", plane_rig.descriptor(session_id),
      { traceparent = "00-" .. TRACE .. "-" .. PARENT .. "-00" })
    assert.equal(TRACE, made.traceId)
    rig:play(session_id)
    rig:await(made.runId, "completed")
    assert.is_nil(rig:events(made.runId)[1].trace.spanId)
    play() -- what was recorded later has arrived: what came before would have, too
    assert.equal(before + 1, #traces:named("run.lifecycle"))
  end)

  it("tells the runtime, in every call made for the run", function()
    local seen, service = {}, rig.runtime.role.service
    local real = service.handle
    service.handle = function(self, call)
      local traceparent = call:header("traceparent")
      if traceparent then
        seen[#seen + 1] = { method = call.method:match("[^/]+$"), value = traceparent,
          state = call:header("tracestate") }
      end
      return real(self, call)
    end
    local session_id = crypto.uuid4()
    local body = plane_rig.descriptor(session_id, { kickoff = json.array({}) })
    body.session.initiatorParticipantId = "boss"
    local status, made = rig:post("/runs", body, CALLER)
    assert.equal(202, status, made.message)
    local methods = {}
    eventually(function()
      for _, call in ipairs(seen) do methods[call.method] = call.value:sub(37, 52) end
      local missing = {}
      for _, name in ipairs({ "Send", "GetSession", "StreamSession" }) do
        if not methods[name] then missing[#missing + 1] = name end
      end
      return #missing == 0, table.concat(missing, ", ")
    end, 10000, "calls of every kind")
    service.handle = nil
    for _, call in ipairs(seen) do
      assert.equal(TRACE, call.value:sub(4, 35), call.method)
      assert.equal("vendor=1", call.state)
    end
    assert.equal(rig:events(made.runId)[1].trace.spanId, methods.StreamSession)
    rig:post("/runs/" .. made.runId .. "/cancel", { force = true })
  end)

  it("begins a trace of its own when the header is none", function()
    local _, made = rig:post("/runs", plane_rig.descriptor(crypto.uuid4()), { traceparent = "00-zzz-1-01" })
    assert.is_true(made.traceId ~= TRACE and made.traceId:find("^[0-9a-f]+$") ~= nil and #made.traceId == 32)
  end)

  it("goes on with the span of a run that another process began", function()
    local session_id = crypto.uuid4()
    local _, made = rig:post("/runs", plane_rig.descriptor(session_id), CALLER)
    rig:open_session(session_id)
    rig:await(made.runId, "running")
    local span_id = rig:events(made.runId)[1].trace.spanId
    rig.plane:close()
    rig.spans:close(1000)
    assert.same({}, traces:named("run.lifecycle", made.runId))
    rig.plane = rig:start_plane()
    rig:propose(session_id, "p1")
    rig:vote(session_id, "ann", "p1")
    rig:vote(session_id, "bob", "p1")
    rig:commit(session_id)
    rig:await(made.runId, "completed")
    local root = traces:await("run.lifecycle", made.runId)
    assert.same({ TRACE, span_id }, { root.trace_id, root.span_id })
    local run = select(2, rig:get("/runs/" .. made.runId))
    local time = require("macp.core.time")
    assert.equal(string.format("%.0f", time.parse_iso(run.createdAt)), root.start:sub(1, 13))
    for _, event in ipairs(rig:events(made.runId)) do assert.equal(span_id, event.trace.spanId) end
  end)
end)

describe("a plane without tracing", function()
  local rig, stop_database

  setup(function()
    stop_database = plane_rig.share_database()
    rig = plane_rig.start({ env = { SESSION_DISCOVERY_ENABLED = "false" } })
  end)

  teardown(function()
    rig:destroy()
    stop_database()
  end)

  it("still hands the caller's trace on, as it came", function()
    local hook = receiver.start()
    rig:post("/webhooks", { url = hook.url, secret = ("s"):rep(16), events = { "run.completed" } })
    local session_id = crypto.uuid4()
    local _, made = rig:post("/runs", plane_rig.descriptor(session_id), CALLER)
    assert.equal(TRACE, made.traceId)
    rig:play(session_id)
    rig:await(made.runId, "completed")
    hook:await(1)
    assert.equal(CALLER.traceparent, hook.requests[1].headers.traceparent)
    assert.is_nil(rig:events(made.runId)[1].trace.spanId)
    hook:close()
  end)

  it("tells receivers of no trace when there is none", function()
    local hook = receiver.start()
    rig:post("/webhooks", { url = hook.url, secret = ("s"):rep(16), events = { "run.completed" } })
    local session_id = crypto.uuid4()
    local _, made = rig:post("/runs", plane_rig.descriptor(session_id))
    rig:play(session_id)
    rig:await(made.runId, "completed")
    hook:await(1)
    assert.is_nil(hook.requests[1].headers.traceparent)
    eventually(function() return #rig:events(made.runId) > 0 end, 5000, "events")
    assert.is_nil(rig:events(made.runId)[1].trace.spanId)
    hook:close()
  end)
end)
