-- The metrics of a runtime, and the listener that serves them.

local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")
local exposition = require("spec.support.exposition")
local metric_names = require("spec.support.metric_names")
local raw = require("spec.support.raw_http")

local crypto = require("host.crypto")
local fetch = require("host.fetch")

local DECISION = "macp.mode.decision.v1"
local GET = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"

describe("metrics", function()
  local rig, port

  before_each(function()
    rig = assert(client.start({ env = { MACP_METRICS_ADDR = "127.0.0.1:0" } }))
    port = rig.role.metrics_server:port()
  end)
  after_each(function() rig:destroy() end)

  local function text() return assert(fetch.request({ url = "http://127.0.0.1:" .. port .. "/metrics" })).body end

  local function expect(lines)
    local body = text()
    for _, line in ipairs(lines) do assert.truthy(body:find(line, 1, true), line .. " is not in\n" .. body) end
  end

  local function proposal(name)
    return client.payload("macp.modes.decision.v1.ProposalPayload", { proposal_id = name, option = "A" })
  end

  it("count messages, transitions and refusals by mode", function()
    local id = crypto.uuid4()
    rig:send("boss", client.start_envelope(id))
    local message = client.envelope({ session_id = id, payload = proposal("p") })
    for _ = 1, 3 do rig:send("ann", message) end
    rig:send("eve", client.envelope({ session_id = id, message_id = "m2" }))
    rig:call("boss", "SuspendSession", { session_id = id })
    rig:call("boss", "ResumeSession", { session_id = id })
    rig:send("ann", client.envelope({ session_id = id, message_id = "m3", message_type = "Commitment" }))
    rig:call("boss", "CancelSession", { session_id = id })
    expect({
      'macp_messages_accepted_total{mode="' .. DECISION .. '"} 1\n', 'macp_messages_rejected_total{mode="'
        .. DECISION .. '"} 2\n', 'macp_sessions_started_total{mode="' .. DECISION .. '"} 1\n',
      'macp_sessions_suspended_total{mode="' .. DECISION .. '"} 1\n',
      'macp_sessions_resumed_total{mode="' .. DECISION .. '"} 1\n',
      'macp_sessions_cancelled_total{mode="' .. DECISION .. '"} 1\n',
      'macp_commitments_rejected_total{mode="' .. DECISION .. '"} 1\n',
      "# TYPE macp_replay_mismatches_total counter\n", "# HELP macp_messages_accepted_total ",
      "macp_runtime_sessions_open 0\n", "# TYPE macp_runtime_durable_ms histogram\n",
    })
  end)

  it("have their names, types, labels and buckets, and no others are there", function()
    local id = crypto.uuid4()
    rig:send("boss", client.start_envelope(id))
    rig:send("ann", client.envelope({ session_id = id, payload = proposal("p") }))
    rig:send(nil, client.envelope({ session_id = id }))
    rig:call("boss", "CancelSession", { session_id = id })
    local families = exposition.parse(text())
    local process = {}
    for name, spec in pairs(metric_names.process) do process[name] = families[name] and spec or nil end
    assert.same({}, metric_names.problems(families, metric_names.runtime, process))
  end)

  it("tell how long flushes take and how many records share one", function()
    local id = crypto.uuid4()
    rig:send("boss", client.start_envelope(id))
    rig:send("ann", client.envelope({ session_id = id, payload = proposal("p") }))
    local families = exposition.parse(text())
    local flushes = exposition.value(families, "macp_runtime_batch_records_count")
    assert.is_true(flushes >= 2)
    assert.equal(flushes, exposition.value(families, "macp_runtime_append_ms_count"))
    assert.is_true(exposition.value(families, "macp_runtime_batch_records_sum") >= flushes)
    assert.is_true(exposition.value(families, "macp_runtime_append_ms_sum") > 0)
  end)

  it("W37: take no label from a caller who is not known, nor one that is no mode", function()
    local id = crypto.uuid4()
    rig:send("boss", client.start_envelope(id))
    rig:send(nil, client.envelope({ session_id = id }))
    rig:send("ann", client.envelope({ session_id = id, message_id = "m2", mode = 'x"} 1\nmacp_evil{a="' }))
    for i = 1, 50 do
      rig:send("ann", client.envelope({ session_id = id, message_id = "x" .. i, mode = "ext.m" .. i }))
    end
    expect({ 'macp_messages_rejected_total{mode="_unknown"} 52\n',
      'macp_runtime_auth_failures_total{reason="missing"} 1\n' })
    local body = text()
    assert.is_nil(body:find("evil", 1, true))
    assert.is_nil(body:find("ext.m", 1, true))
    assert.is_nil(body:find('macp_messages_rejected_total{mode="' .. DECISION, 1, true))
  end)

  it("are served as text under their path, and nothing else is", function()
    local one = raw.connect(port)
    one:send(GET)
    assert.equal("HTTP/1.1 200 OK", one:line())
    local head = {}
    for line in function() return one:line() end do
      if line == "" then break end
      head[#head + 1] = line:lower()
    end
    head = table.concat(head, "\n")
    assert.truthy(head:find("content-type: text/plain; version=0.0.4", 1, true), head)
    assert.truthy(head:find("connection: close", 1, true), head)
    one:close()
    for _, case in ipairs({ { "GET", "/", 200 }, { "GET", "/other", 404 }, { "GET", "/metrics/x", 404 },
      { "POST", "/metrics", 404 } }) do
      local reply = assert(fetch.request({ method = case[1], url = "http://127.0.0.1:" .. port .. case[2] }))
      assert.equal(case[3], reply.status, case[1] .. " " .. case[2])
    end
  end)

  it("W37: are served to so many connections at a time", function()
    local idle = {}
    for i = 1, 64 do idle[i] = raw.connect(port) end
    eventually(function() return rig.role.metrics_server:stats().connections == 64 end, 3000)
    local late = raw.connect(port)
    assert.equal("HTTP/1.1 503 Service Unavailable", late:line())
    late:close()
    for _, one in ipairs(idle) do one:close() end
    eventually(function() return rig.role.metrics_server:stats().connections == 0 end, 3000)
    assert.matches("macp_runtime_sessions_open", text())
  end)
end)
