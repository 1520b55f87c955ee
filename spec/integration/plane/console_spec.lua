-- What the web console reads, field by field: every call of its pages against runs of every kind of mode, with the names,
-- types and value sets it relies on.

local crypto = require("host.crypto")

local json = require("macp.core.json")
local mode_registry = require("macp.modes.registry")

local client = require("spec.support.runtime_client")
local console_fields = require("spec.support.console_fields")
local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")

local STATUS, ROW, METRICS = console_fields.STATUS, console_fields.ROW, console_fields.METRICS
local one_of, check = console_fields.one_of, console_fields.check
local check_fields, check_each = console_fields.check_fields, console_fields.check_each
local check_projection, check_event = console_fields.check_projection, console_fields.check_event

local TOKENS = [=[[{"token":"boss","sender":"boss","can_manage_mode_registry":true},{"token":"ann","sender":"ann"},
  {"token":"bob","sender":"bob"},{"token":"plane","sender":"plane","is_observer":true}]]=]

local REGISTERED = { mode = "ext.chat.v1", mode_version = "1", message_types = { "SessionStart", "Ping", "Vote",
  "Commitment" }, terminal_message_types = { "Commitment" } }

-- Sessions: { sender, message type, fields }; JSON text where nobody has a codec.
local SESSIONS = {
  ["macp.mode.decision.v1"] = {
    { "ann", "Proposal", { proposal_id = "p1", option = "ship", rationale = "green" } },
    { "bob", "Evaluation", { proposal_id = "p1", recommendation = "REVIEW", confidence = 0.6, reason = "look" } },
    { "bob", "Objection", { proposal_id = "p1", reason = "late", severity = "low" } },
    { "ann", "Vote", { proposal_id = "p1", vote = "APPROVE" } }, { "bob", "Vote", { proposal_id = "p1",
      vote = "APPROVE" } },
  },
  ["macp.mode.proposal.v1"] = {
    { "ann", "Proposal", { proposal_id = "p1", title = "one" } }, { "bob", "Accept", { proposal_id = "p1" } },
    { "ann", "Accept", { proposal_id = "p1" } }, { "boss", "Accept", { proposal_id = "p1" } },
  },
  ["macp.mode.task.v1"] = {
    { "boss", "TaskRequest", { task_id = "t1", title = "do it" } }, { "ann", "TaskAccept", { task_id = "t1" } },
    { "ann", "TaskUpdate", { task_id = "t1", status = "working", progress = 0.5 } },
    { "ann", "TaskComplete", { task_id = "t1", summary = "done" } },
  },
  ["macp.mode.handoff.v1"] = {
    { "boss", "HandoffOffer", { handoff_id = "h1", target_participant = "bob", scope = "all" } },
    { "boss", "HandoffContext", { handoff_id = "h1", content_type = "text/plain", context = "c" } },
    { "bob", "HandoffAccept", { handoff_id = "h1" } },
  },
  ["macp.mode.quorum.v1"] = {
    { "boss", "ApprovalRequest", { request_id = "q1", action = "deploy", required_approvals = 2 } },
    { "ann", "Approve", { request_id = "q1" } }, { "bob", "Approve", { request_id = "q1" } },
  },
  ["ext.multi_round.v1"] = {
    { "ann", "Contribute", { value = "blue" } }, { "bob", "Contribute", { value = "blue" } },
    { "boss", "Contribute", { value = "blue" } },
  },
  ["ext.auction.v1"] = { commits = false,
    { "boss", "Open", { lot_id = "L1", title = "Tractor", seal_ms = 60000, reveal_ms = 60000 } },
    { "ann", "Seal", { digest = ("ab"):rep(32) } },
  },
  ["ext.chat.v1"] = {
    { "ann", "Ping", "\255\254" }, { "bob", "Vote", '{"proposalId":"p1","vote":"APPROVE"}' },
  },
}

describe("the console", function()
  local rig, registry
  local runs = {} -- by mode

  local function payload_of(mode, message_type, fields)
    if type(fields) == "string" then return fields end
    return (assert(registry:get(mode):codec(message_type):encode(fields)))
  end

  local function send(token, mode, id, message_type, payload)
    rig:send(token, id, message_type, payload, nil, mode)
  end

  local function tell(token, id, message_type, fields)
    send(token, "", "", message_type, client.payload("macp.v1." .. message_type .. "Payload", fields))
    return id
  end

  local function open(mode)
    local id = crypto.uuid4()
    send("boss", mode, id, "SessionStart", client.payload("macp.v1.SessionStartPayload", { intent = "pick",
      participants = { "ann", "bob", "boss" }, ttl_ms = 600000, mode_version = mode == "ext.chat.v1" and "1" or "1.0.0",
      configuration_version = "config.default", context_id = "ctx" }))
    rig:await(id, "running")
    return id
  end

  local function play(mode, id)
    for _, step in ipairs(SESSIONS[mode]) do send(step[1], mode, id, step[2], payload_of(mode, step[2], step[3])) end
  end

  local function commit(mode, id)
    send("boss", mode, id, "Commitment", client.payload("macp.v1.CommitmentPayload", { commitment_id = "c1",
      action = "all.completed", authority_scope = "team", reason = "agreed", outcome_positive = true,
      mode_version = mode == "ext.chat.v1" and "1" or "1.0.0", configuration_version = "config.default" }))
  end

  setup(function()
    registry = mode_registry.new({ dirs = {}, depth = "off" })
    assert(registry:load_all())
    rig = plane_rig.start({ runtime_env = { MACP_AUTH_TOKENS_JSON = TOKENS } })
    assert.is_true(assert(rig.runtime:call("boss", "RegisterExtMode", { mode_descriptor = REGISTERED })).ok)
    for mode, steps in pairs(SESSIONS) do
      local id = open(mode)
      runs[mode] = id
      play(mode, id)
      if mode == "macp.mode.decision.v1" then
        tell("ann", id, "Signal", { signal_type = "session.context", correlation_session_id = id,
          data = '{"amount":5,"severity":"high"}', confidence = 0.5 })
        tell("ann", id, "Signal", { signal_type = "llm.call.completed", correlation_session_id = id,
          data = '{"model":"m","prompt":"a","response":"b","promptTokens":1e300,"completionTokens":10.9,'
            .. '"estimatedCostUsd":0.25,"latencyMs":12.5}' })
        tell("bob", id, "Signal", { signal_type = "llm.call.completed", correlation_session_id = id,
          data = '{"tokenUsage":{"promptTokens":"7","completionTokens":-1,"prompt_tokens":3},"model":"m"}' })
        eventually(function()
          local _, state = rig:get("/runs/" .. id .. "/state")
          return #state.signals.signals == 3
        end, 5000, "the signals")
      end
      if steps.commits ~= false then commit(mode, id) end
    end
    for mode, steps in pairs(SESSIONS) do
      if steps.commits ~= false then rig:await(runs[mode], "completed", 10000) end
    end
  end)

  teardown(function()
    if rig then rig:destroy() end
    registry:close()
  end)

  local function get(path)
    local status, answer = rig:get(path)
    assert.equal(200, status, path)
    return answer
  end

  it("lists runs with every field of a row", function()
    for _, query in ipairs({ "?limit=200&offset=0", "?limit=200&offset=0&status=running",
      "?limit=200&offset=0&status=suspended", "?limit=20&offset=0&search=policy.default",
      "?limit=20&offset=0&createdAfter=2025-03-04&sortBy=updatedAt&sortOrder=asc&includeArchived=true" }) do
      local page = get("/runs" .. query)
      check_fields(page, { data = "array", total = "number", limit = "number", offset = "number" }, query)
      check_each(page.data, ROW, "/runs" .. query)
    end
    assert.equal(8, get("/runs?limit=200&offset=0").total)
    local found = get("/runs?limit=20&search=" .. runs["macp.mode.task.v1"])
    assert.equal(1, #found.data)
  end)

  it("shows a run of every mode: row, state, events, metrics, traces, artifacts", function()
    for mode, id in pairs(runs) do
      local path = "/runs/" .. id
      local row = get(path)
      check_fields(row, ROW, path)
      assert.same({ id, id, mode }, { row.id, row.runtimeSessionId, row.metadata.modeName })
      local state = get(path .. "/state")
      check_projection(state, mode)
      assert.equal(mode, state.run.modeName)
      assert.equal("ctx", state.run.contextId)
      local events = get(path .. "/events?limit=500&afterSeq=0")
      assert.is_true(json.is_array(events))
      local last = 0
      for i, event in ipairs(events) do
        check_event(event, id, mode .. "[" .. i .. "]")
        assert.is_true(event.seq > last)
        last = event.seq
      end
      assert.equal(state.timeline.totalEvents, #events)
      check_fields(get(path .. "/metrics"), METRICS, mode)
      check_fields(get(path .. "/traces"), { traceId = "text?", spanCount = "number", linkedArtifacts = "array" }, mode)
      check_each(get(path .. "/artifacts"), { id = "text", runId = "text", label = "text", createdAt = "time",
        kind = one_of("trace", "json", "report", "log", "bundle") }, mode)
      if state.policy.policyVersion ~= "" then
        check_fields(get("/runtime/policies/" .. state.policy.policyVersion), { policyId = "text", mode = "text",
          description = "string", rules = "object", schemaVersion = "number" }, "policy")
      end
    end
  end)

  it("finds in a finished run's metadata what its lists show", function()
    local id = runs["macp.mode.decision.v1"]
    local metadata = get("/runs/" .. id).metadata
    check_fields(metadata, { modeName = "text", finalAction = "text", finalConfidence = "number",
      totalTokens = "number", estimatedCostUsd = "number", durationMs = "number", eventCount = "number",
      signalCount = "number", decisionCount = "number", executionRequest = "object" }, "metadata")
    assert.same({ "all.completed", 13, 0.25, 3, 1 }, { metadata.finalAction, metadata.totalTokens,
      metadata.estimatedCostUsd, metadata.signalCount, metadata.decisionCount })
    local counted = get("/runs/" .. id .. "/metrics")
    assert.same({ 3, 10, 13, 0.25 }, { counted.promptTokens, counted.completionTokens, counted.totalTokens,
      counted.estimatedCostUsd })
    local totals = get("/runs/" .. id .. "/state").llm.totals
    assert.same({ callCount = 2, promptTokens = 3, completionTokens = 10, totalTokens = 13, estimatedCostUsd = 0.25 },
      totals)
  end)

  it("says why a run failed", function()
    local status, accepted = rig:post("/runs", plane_rig.descriptor(crypto.uuid4(), { session = {
      modeName = "no.such.mode", modeVersion = "1", configurationVersion = "c", ttlMs = 60000,
      participants = { { id = "ann" } } } }))
    assert.equal(202, status)
    local row = rig:await(accepted.runId, "failed")
    assert.same({ "MODE_NOT_SUPPORTED", "the runtime does not support no.such.mode",
      "the runtime does not support no.such.mode" }, { row.errorCode, row.errorMessage, row.metadata.error })
  end)

  it("reads the inputs of a session from its context signal, and calls with their prompts", function()
    local signal, call
    for _, event in ipairs(get("/runs/" .. runs["macp.mode.decision.v1"] .. "/events?limit=500")) do
      if event.type == "signal.emitted" and event.data.name == "session.context" then signal = event.data end
      if event.type == "llm.call.completed" and event.data.sender == "ann" then call = event.data end
    end
    assert.same({ "session.context", "high", 0.5, { signalType = "session.context",
      data = { amount = 5, severity = "high" } } },
      { signal.signalType, signal.severity, signal.confidence, signal.payload })
    local told = call.decodedPayload
    assert.same({ "ann", "m", "a", "b", 0, 10, 10, 12.5, 0.25 }, { call.participantId, told.model, told.prompt,
      told.response, told.promptTokens, told.completionTokens, told.totalTokens, told.latencyMs,
      told.estimatedCostUsd })
  end)

  it("reads the outcome of a decision from its event", function()
    for mode, id in pairs(runs) do
      for _, event in ipairs(get("/runs/" .. id .. "/events?limit=500")) do
        if event.type == "decision.finalized" then
          assert.same({ "all.completed", { "agreed" }, true, "c1" }, { event.data.action, event.data.reasons,
            event.data.outcomePositive, event.data.commitmentId }, mode)
        end
      end
    end
  end)

  it("follows a decision live: events and a snapshot after each change", function()
    local mode = "macp.mode.decision.v1"
    local id = open(mode)
    local stream = rig:stream("/runs/" .. id .. "/stream?includeSnapshot=true&afterSeq=0")
    assert.equal("text/event-stream", stream.headers["content-type"]:match("^[^;]+"))
    local function last_snapshot(frames)
      for i = #frames, 1, -1 do
        if frames[i].event == "snapshot" then return json.decode(frames[i].data) end
      end
    end
    stream:read_until(function(frames) return last_snapshot(frames) ~= nil end)
    play(mode, id)
    stream:read_until(function(frames)
      local state = last_snapshot(frames)
      return state.policy.voteTally and state.policy.voteTally[1].allow == 2
    end)
    commit(mode, id)
    stream:read_until(function(frames)
      local state = last_snapshot(frames)
      return state.run.status == "completed"
    end)
    local names = {}
    for _, frame in ipairs(stream.frames) do
      names[frame.event] = true
      if frame.event == "canonical_event" then
        local event = json.decode(frame.data)
        check_event(event, id, "live")
        assert.equal(frame.id, tostring(event.seq))
      elseif frame.event == "snapshot" then
        check_projection(json.decode(frame.data), "snapshot")
      end
    end
    assert.same({ canonical_event = true, snapshot = true }, names)
    stream:close()
  end)

  it("keeps the stream of a run that has ended: an EventSource would come back for ever", function()
    local path = "/runs/" .. runs["macp.mode.quorum.v1"] .. "/stream?includeSnapshot=true&afterSeq=0&heartbeatMs=1000"
    local stream = rig:stream(path, { accept = "text/event-stream" })
    stream:read_until(function(frames)
      local beats = 0
      for _, frame in ipairs(frames) do
        if frame.event == "heartbeat" then beats = beats + 1 end
      end
      return beats == 2
    end)
    assert.is_false(stream.ended)
    assert.equal("snapshot", stream.frames[1].event)
    assert.is_true(#stream:seqs() > 5)
    stream:close()
    for _, others in ipairs({ { path, { accept = "*/*" } }, { path .. "&follow=false",
      { accept = "text/event-stream" } } }) do
      stream = rig:stream(others[1], others[2])
      stream:read_all()
      assert.is_true(stream.ended)
      stream:close()
    end
  end)

  it("gets answers from the pages across runs and from the runtime", function()
    local overview = get("/dashboard/overview?window=15m")
    check_fields(overview.kpis, { totalRuns = "number", activeRuns = "number", completedRuns = "number",
      failedRuns = "number", cancelledRuns = "number", suspendedRuns = "number", totalSignals = "number",
      totalTokens = "number", totalCostUsd = "number" }, "kpis")
    check_each(overview.recentRuns, { id = "text", status = STATUS, runtimeKind = "text", createdAt = "time",
      metadata = "object" }, "recentRuns")
    check_fields(overview.runtimeHealth, { ok = "boolean", runtimeKind = "text" }, "runtimeHealth")
    for name, chart in pairs(overview.charts) do
      assert.is_true(#chart.labels == #chart.data, name)
    end
    for _, window in ipairs({ "1h", "6h", "24h", "7d", "30d" }) do get("/dashboard/overview?window=" .. window) end
    check_each(get("/dashboard/agents/metrics"), { participantId = "text", runs = "number", signals = "number",
      messages = "number", averageConfidence = "number" }, "agents")
    check_fields(get("/runtime/health"), { ok = "boolean", runtimeKind = "text", detail = "string?" }, "health")
    check_fields(get("/runtime/manifest"), { agentId = "string", title = "string", description = "string",
      supportedModes = "array", metadata = "object" }, "manifest")
    check_each(get("/runtime/modes"), { mode = "text", modeVersion = "string", messageTypes = "array",
      terminalMessageTypes = "array", schemaUris = "object" }, "modes")
    check_each(get("/runtime/roots"), { uri = "text", name = "string" }, "roots")
    check_each(get("/runtime/policies"), { policyId = "text", mode = "text", description = "string",
      rules = "object", schemaVersion = "number" }, "policies")
    local page = get("/events?limit=250")
    check_fields(page, { data = "array", total = "number" }, "events")
    for i, event in ipairs(page.data) do check_event(event, event.runId, "/events[" .. i .. "]") end
    assert.is_nil(get("/events?limit=500&runId=" .. runs["macp.mode.quorum.v1"]).nextCursor)
    check_fields(get("/audit?limit=100&offset=0"), { data = "array", total = "number" }, "audit")
    check(get("/webhooks"), "array", "webhooks")
    check_fields(get("/readyz"), { ok = "boolean", database = one_of("ok"), streamConsumer = one_of("ok"),
      circuitBreaker = one_of("CLOSED"), runtime = "object" }, "readyz")
    assert.is_true(get("/healthz").ok)
    for _, window in ipairs({ "15m", "30d" }) do
      check_fields(get("/admin/circuit-breaker/history?window=" .. window), { history = "array",
        state = one_of("CLOSED", "OPEN", "HALF_OPEN") }, "breaker")
    end
    local text = get("/metrics")
    for _, part in ipairs({ "# TYPE macp_run_duration_seconds histogram", "macp_run_duration_seconds_bucket{",
      "macp_run_duration_seconds_sum", "macp_run_duration_seconds_count" }) do
      assert.is_truthy(text:find(part, 1, true), part)
    end
  end)

  it("does what its buttons say", function()
    local task, chat = runs["macp.mode.task.v1"], runs["ext.chat.v1"]
    local function post(path, body, expected)
      local status, answer = rig:request("POST", path, body or "")
      assert.is_true(expected and status == expected or not expected and status >= 200 and status < 300,
        path .. ": " .. status .. " " .. json.encode(answer))
      return answer
    end
    check_fields(post("/runs/" .. task .. "/artifacts", { kind = "report", label = "Findings" }),
      { id = "text", runId = "text", kind = "text", label = "text", createdAt = "time" }, "artifact")
    check_fields(post("/runs/" .. task .. "/replay", { mode = "timed", speed = 1 }), { runId = "text", mode = "text",
      speed = "number", streamUrl = "text", stateUrl = "text" }, "replay")
    check_projection(get("/runs/" .. task .. "/replay/state?seq=9"), "replayed")
    check_fields(post("/runs/" .. task .. "/projection/rebuild"), { rebuilt = "boolean", latestSeq = "number" },
      "rebuild")
    for _, format in ipairs({ "json", "jsonl" }) do
      check_fields(get("/runs/" .. task .. "/export?includeCanonical=true&includeRaw=true&format=" .. format),
        { run = "object", session = "object", projection = "object", canonicalEvents = "array", rawEvents = "array",
          artifacts = "array", metrics = "object", exportedAt = "time" }, format)
    end
    local compared = post("/runs/compare", { leftRunId = task, rightRunId = chat })
    check_fields(compared, { left = "object", right = "object", statusMatch = "boolean", participantsDiff = "object",
      signalsDiff = "object" }, "compare")
    check_fields(post("/runs/" .. task .. "/archive"), { id = "text", archivedAt = "time" }, "archive")
    check(post("/runs/batch/export", { runIds = { task } }), "array", "batch/export")
    local batch = post("/runs/batch/archive", { runIds = { chat } })
    assert.same({ chat, true }, { batch.results[1].runId, batch.results[1].ok })
    assert.is_true(post("/runs/batch/delete", { runIds = { chat } }).results[1].ok)
    check_fields(post("/runs/" .. task .. "/clone", {}), { runId = "text", status = STATUS }, "clone")
    local refused = post("/runs/" .. task .. "/suspend", { reason = "x" }, 400)
    assert.equal("only running runs can be suspended (current status: completed)", refused.message)
    refused = post("/runs/" .. task .. "/resume", { reason = "x" }, 400)
    assert.equal("only suspended runs can be resumed (current status: completed)", refused.message)
    assert.equal(400, (rig:request("DELETE", "/runs/" .. runs["ext.auction.v1"])))
    assert.equal(204, (rig:request("DELETE", "/runs/" .. task)))
    check_fields(post("/runs/validate", plane_rig.descriptor(crypto.uuid4())), { valid = "boolean",
      errors = "array", warnings = "array", runtime = "object" }, "validate")
    check_fields(post("/admin/circuit-breaker/reset"), { status = "text", state = "text" }, "reset")
    assert.equal("ENDPOINT_REMOVED", post("/runs/" .. task .. "/messages", {}, 410).errorCode)
  end)
end)
