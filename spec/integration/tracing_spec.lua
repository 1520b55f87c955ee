-- The whole program with tracing on: both roles in one process, their log lines, and its end.

local crypto = require("host.crypto")
local fetch = require("host.fetch")

local json = require("macp.core.json")
local messages = require("macp.protocol.messages")

local collector = require("spec.support.collector")
local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")
local runtime = require("spec.support.runtime_client")
local system = require("spec.support.system")

local TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
local TRACEPARENT = "00-" .. TRACE .. "-" .. PARENT .. "-01"

describe("a program with tracing on", function()
  local sys_under_test, traces

  setup(function()
    traces = collector.start()
    sys_under_test = system.start({ env = { OTEL_ENABLED = "true", OTEL_EXPORTER_OTLP_ENDPOINT = traces.url,
      OTEL_BSP_SCHEDULE_DELAY = "60000", OTEL_SERVICE_NAME = "agents", SESSION_DISCOVERY_ENABLED = "false" } })
  end)

  teardown(function()
    sys_under_test:close()
    traces:close()
  end)

  -- Log lines of an event, decoded.
  local function lines(event)
    local found = {}
    for _, line in ipairs(sys_under_test.program.lines) do
      local decoded = line:sub(1, 1) == "{" and json.decode(line)
      if decoded and decoded.event == event then found[#found + 1] = decoded end
    end
    return found
  end

  local function await_line(event, matches)
    return eventually(function()
      for _, line in ipairs(lines(event)) do
        if matches(line) then return line end
      end
    end, 5000, "a line " .. event)
  end

  -- Opens a session as a client that is part of a trace.
  local function open(session_id)
    local rpc_info = messages.rpc("Send")
    local request = messages.codec(rpc_info.request):encode({ envelope = runtime.start_envelope(session_id) })
    local reply = assert(sys_under_test:client().channel:unary(rpc_info.path, request, {
      metadata = { authorization = "Bearer boss", traceparent = TRACEPARENT }, timeout_ms = 20000 }))
    assert.is_true(messages.codec(rpc_info.response):decode(reply).ack.ok)
  end

  it("names request, run and trace in every line of a request", function()
    local reply = assert(fetch.request({ url = sys_under_test.url .. "/runs", method = "POST",
      headers = { ["content-type"] = "application/json", traceparent = TRACEPARENT, ["x-request-id"] = "my-request" },
      body = json.encode(plane_rig.descriptor(crypto.uuid4())) }))
    assert.equal(202, reply.status)
    local run_id = json.decode(tostring(reply.body)).runId
    local line = await_line("http.request", function(found) return found.requestId == "my-request" end)
    assert.same({ "my-request", TRACE, "POST", "/runs", 202 },
      { line.request_id, line.trace_id, line.method, line.path, line.statusCode })
    assert.is_number(line.durationMs)
    fetch.request({ url = sys_under_test.url .. "/runs/" .. run_id, headers = { ["x-request-id"] = "second" } })
    line = await_line("http.request", function(found) return found.requestId == "second" end)
    assert.equal(run_id, line.run_id)
    assert.equal(32, #line.trace_id)
  end)

  it("names the caller's trace in the lines of the runtime", function()
    local session_id = crypto.uuid4()
    open(session_id)
    local line = await_line("session.started", function(found) return found.session_id == session_id end)
    assert.equal(TRACE, line.trace_id)
    sys_under_test:client():send("boss", runtime.start_envelope(crypto.uuid4()))
    line = await_line("session.started", function(found) return found.session_id ~= session_id end)
    assert.equal(32, #line.trace_id) -- a trace of its own
    assert.not_equal(TRACE, line.trace_id)
    assert.is_false(sys_under_test:client():send("ann", runtime.envelope({ session_id = session_id,
      message_id = "bad", payload = "\255" })).ok)
  end)

  -- A stream of a client that is part of a trace: a subscription, three envelopes of which one is refused, and its end.
  local function stream(session_id)
    local channel = sys_under_test:client().channel
    local codec = messages.codec("macp.v1.StreamSessionRequest")
    local call = assert(channel:stream(messages.rpc("StreamSession").path,
      { metadata = { authorization = "Bearer ann", traceparent = TRACEPARENT } }))
    local function write(request) assert(call:write(assert(codec:encode(request)))) end
    local function propose(id)
      write({ envelope = runtime.envelope({ session_id = session_id, message_id = id, sender = "ann",
        payload = runtime.payload("macp.modes.decision.v1.ProposalPayload", { proposal_id = id, option = "A" }) }) })
      return assert(call:read())
    end
    write({ subscribe_session_id = session_id })
    assert(call:read()) -- the start
    propose("p1")
    propose("p2")
    propose("") -- refused
    call:half_close()
    assert.same({ nil, nil }, { call:read() })
  end

  it("makes a span of every frame of a stream, below that of the stream", function()
    local session_id = crypto.uuid4()
    open(session_id)
    stream(session_id)
    await_line("stream.subscribed", function(found)
      return found.session_id == session_id and found.trace_id == TRACE
    end)
  end)

  -- What came of it at the collector, once the program has sent it.
  local function check_stream()
    local whole = traces:named("macp.v1.MACPRuntimeService/StreamSession")
    assert.equal(1, #whole)
    assert.same({ PARENT, 0, "StreamSession", 0 }, { whole[1].parent_span_id,
      whole[1].attributes["rpc.grpc.status_code"], whole[1].attributes["rpc.method"], whole[1].status.code or 0 })
    local told = {}
    for i, span in ipairs(traces:named("stream frame")) do
      assert.same({ TRACE, whole[1].span_id, 1 }, { span.trace_id, span.parent_span_id, span.kind })
      assert.is_true(span.start >= whole[1].start and span.stop <= whole[1].stop)
      assert.equal(36, #span.attributes["macp.session_id"])
      local at = span.attributes
      told[i] = { at["rpc.message.id"], at["rpc.message.type"], at["macp.message_type"] or "",
        at["macp.error_code"] or "" }
    end
    assert.same({ { 1, "RECEIVED", "", "" }, { 2, "RECEIVED", "Proposal", "" }, { 3, "RECEIVED", "Proposal", "" },
      { 4, "RECEIVED", "", "INVALID_ENVELOPE" } }, told)
  end

  it("counts its spans, and sends the last ones before it ends", function()
    local text = tostring(fetch.request({ url = sys_under_test.url .. "/metrics" }).body)
    assert.truthy(text:find("\nmacp_otlp_queue_spans %d"))
    assert.truthy(text:find('\nmacp_otlp_spans_total{result="dropped"} 0', 1, true))
    assert.same({}, traces.spans)
    sys_under_test:stop()
    assert.is_true(#traces:named("POST /runs") == 1)
    assert.equal("agents", traces.spans[1].resource["service.name"])
    local sent, refused, commit = {}, nil, {}
    for _, span in ipairs(traces:named("macp.v1.MACPRuntimeService/Send")) do
      if span.trace_id == TRACE and span.attributes["macp.message_type"] == "SessionStart" then sent = span end
      if span.attributes["macp.error_code"] then refused = span end
    end
    for _, span in ipairs(traces:named("journal commit")) do
      if span.parent_span_id == sent.span_id then commit = span end
    end
    assert.same({ PARENT, 2, "SessionStart", "macp.mode.decision.v1", "grpc", "Send" },
      { sent.parent_span_id, sent.kind, sent.attributes["macp.message_type"], sent.attributes["macp.mode"],
        sent.attributes["rpc.system"], sent.attributes["rpc.method"] })
    assert.equal(0, sent.attributes["rpc.grpc.status_code"])
    check_stream()
    assert.same({ TRACE, 1 }, { commit.trace_id, commit.kind })
    assert.is_true(commit.start >= sent.start and commit.stop <= sent.stop)
    assert.same({ "INVALID_ENVELOPE", 2 }, { refused.attributes["macp.error_code"], refused.status.code })
  end)
end)
