-- The metrics of a plane after traffic: the whole list, by name, type, labels and buckets; and what they count.

local crypto = require("host.crypto")

local collector = require("spec.support.collector")
local eventually = require("spec.support.eventually")
local exposition = require("spec.support.exposition")
local metric_names = require("spec.support.metric_names")
local plane_rig = require("spec.support.plane_rig")
local receiver = require("spec.support.receiver")
local runtime = require("spec.support.runtime_client")

describe("metrics of the plane", function()
  local rig, traces, hook, stop_database

  setup(function()
    stop_database = plane_rig.share_database()
    traces, hook = collector.start(), receiver.start()
    rig = plane_rig.start({ env = { OTEL_ENABLED = "true", OTEL_EXPORTER_OTLP_ENDPOINT = traces.url } })
    rig:post("/webhooks", { url = hook.url, secret = ("s"):rep(16) })
  end)

  teardown(function()
    rig:destroy()
    traces:close()
    hook:close()
    stop_database()
  end)

  local function read()
    local status, text = rig:get("/metrics")
    assert.equal(200, status)
    return exposition.parse(text)
  end

  local function play()
    local session_id = crypto.uuid4()
    local _, made = rig:post("/runs", plane_rig.descriptor(session_id))
    rig:open_session(session_id)
    rig:await(made.runId, "running")
    local payload = runtime.payload("macp.v1.SignalPayload", { signal_type = "busy",
      correlation_session_id = session_id })
    assert.is_true(rig.runtime:send("ann", runtime.envelope({ mode = "", message_type = "Signal",
      message_id = crypto.uuid4(), payload = payload })).ok)
    rig:propose(session_id, "p1")
    rig:vote(session_id, "ann", "p1")
    rig:vote(session_id, "bob", "p1")
    rig:commit(session_id)
    return rig:await(made.runId, "completed")
  end

  it("have their names, types, labels and buckets, and no others are there", function()
    play()
    local families = read()
    for name in pairs(metric_names.process) do
      if name:find("^process_") or name == "macp_tasks" then assert.is_nil(families[name]) end -- the rig has a bare registry
    end
    local process = {}
    for name, spec in pairs(metric_names.process) do process[name] = families[name] and spec or nil end
    assert.same({}, metric_names.problems(families, metric_names.plane, metric_names.tracing, process))
  end)

  it("count what happened", function()
    local before = read()
    local run = play()
    eventually(function() return #hook.requests > 0 end, 5000, "a delivery")
    rig:get("/runs/" .. run.id .. "/state")
    rig:get("/no/such/path/" .. crypto.uuid4())
    local after
    local function grown(name, labels)
      return (exposition.value(after, name, labels) or 0) - (exposition.value(before, name, labels) or 0)
    end
    eventually(function()
      after = read()
      return grown("macp_webhook_deliveries_total", { status = "delivered" }) >= 1
        and grown("macp_signals_total", { signal_type = "busy" }) == 1
    end, 5000, "the last counts")
    assert.equal(1, grown("run_state_transitions_total", { status = "completed" }))
    assert.equal(1, grown("macp_run_duration_seconds_count",
      { terminal_status = "completed", mode_name = "macp.mode.decision.v1" }))
    assert.equal(2, grown("macp_inbound_messages_total", { mode = "macp.mode.decision.v1", message_type = "Vote" }))
    assert.equal(1, grown("macp_outbound_messages_total", { category = "observer", status = "subscribed" }))
    assert.is_true(grown("macp_events_persisted_total", { kind = "canonical" }) > 5)
    assert.is_true(grown("macp_events_persisted_total", { kind = "raw" }) >= 5)
    assert.is_true(grown("grpc_call_duration_seconds_count", { method = "GetSession", status = "ok" }) >= 1)
    assert.is_true(grown("macp_circuit_breaker_success_total") >= 1)
    assert.equal(0, grown("macp_circuit_breaker_failures_total"))
    assert.equal(1, grown("http_requests_total", { path = "/runs/:id/state", method = "GET", status_code = "200" }))
    assert.equal(1, grown("http_requests_total", { path = "unmatched", status_code = "404" }))
    assert.is_true(grown("macp_db_query_seconds_count", { op = "query" }) >= 1)
    assert.is_true(grown("macp_db_query_seconds_count", { op = "commit" }) >= 1)
    assert.is_true(grown("macp_pipeline_batch_size_count") >= 1)
  end)

  it("count cancelled runs, too", function()
    local session_id = crypto.uuid4()
    local _, made = rig:post("/runs", plane_rig.descriptor(session_id))
    rig:open_session(session_id)
    rig:await(made.runId, "running")
    assert(rig.runtime:call("boss", "CancelSession", { session_id = session_id, reason = "enough" }))
    rig:await(made.runId, "cancelled")
    assert.equal(1, exposition.value(read(), "macp_run_duration_seconds_count", { terminal_status = "cancelled" }))
  end)

  it("P41: have labels from outside only as many as there is room for", function()
    for i = 1, 30 do rig:get("/runtime/policies/p" .. i) end
    local paths = {}
    for _, sample in ipairs(read().http_requests_total.samples) do paths[sample.labels.path] = true end
    assert.is_true(paths["/runtime/policies/*policyId"])
    for path in pairs(paths) do assert.is_nil(path:find("/p%d"), path) end
    local registry = require("macp.telemetry.metrics").new()
    local plane = require("macp.plane.metrics").new(registry)
    for i = 1, 500 do
      plane.signal("s" .. i)
      plane.inbound("m", "t" .. i)
      plane.lua_error("m" .. i)
    end
    assert.equal(201, #registry.families.macp_signals_total.series)
    assert.equal(300, registry.families.macp_signals_total:labels("other").value)
    assert.equal(201, #registry.families.macp_inbound_messages_total.series)
    assert.is_true(#registry.families.macp_lua_errors_total.series <= 201)
  end)
end)
