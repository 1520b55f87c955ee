-- What the web console reads, field by field: every call of its pages against runs of every kind of mode, with the names,
-- types and value sets it relies on.

local crypto = require("host.crypto")
local sys = require("host.sys")

local json = require("macp.core.json")
local mode_registry = require("macp.modes.registry")

local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")

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

local STATUS = { queued = true, starting = true, binding_session = true, running = true, suspended = true,
  completed = true, failed = true, cancelled = true }

local function one_of(...)
  local set = {}
  for _, word in ipairs({ ... }) do set[word] = true end
  return set
end

local PEOPLE = one_of("idle", "active", "waiting", "completed", "failed", "skipped")
local SOURCES = one_of("runtime", "macp-control-plane", "replay")

-- A value of an answer: "string", "text" (not empty), "number", "boolean", "object", "array", "time", a set of words,
-- with "?" absent too, with "0" null too.
local function check(value, kind, where)
  if type(kind) == "table" then
    assert.is_true(kind[value] == true, where .. " is " .. tostring(value))
    return
  end
  local name, modifier = kind:match("^(%a+)([?0]?)$")
  if modifier == "?" and value == nil then return end
  if modifier == "0" and value == json.null then return end
  if name == "object" then
    assert.is_true(type(value) == "table" and not json.is_array(value), where .. " is no object")
  elseif name == "array" then
    assert.is_true(json.is_array(value), where .. " is no array")
  elseif name == "time" then
    assert.is_true(type(value) == "string" and value:find("^%d+%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ$") ~= nil,
      where .. " is " .. tostring(value))
  elseif name == "text" then
    assert.is_true(type(value) == "string" and value ~= "", where .. " is " .. tostring(value))
  else
    assert.equal(name, type(value), where)
  end
end

local function check_fields(value, fields, where)
  check(value, "object", where)
  for name, kind in pairs(fields) do check(value[name], kind, where .. "." .. name) end
end

local function check_each(list, fields, where)
  check(list, "array", where)
  for i, item in ipairs(list) do check_fields(item, fields, where .. "[" .. i .. "]") end
end

local ROW = { id = "text", status = STATUS, runtimeKind = "text", runtimeVersion = "string0",
  runtimeSessionId = "string0", traceId = "string0", tags = "array", sourceKind = "string0", sourceRef = "string0",
  metadata = "object", createdAt = "time", startedAt = "time0", endedAt = "time0", archivedAt = "time0",
  updatedAt = "time", mode = "text", idempotencyKey = "string0", lastEventSeq = "number", errorCode = "string0",
  errorMessage = "string0" }

local METRICS = { runId = "text", eventCount = "number", messageCount = "number", signalCount = "number",
  proposalCount = "number", toolCallCount = "number", decisionCount = "number", streamReconnectCount = "number",
  firstEventAt = "time", lastEventAt = "time", durationMs = "number", sessionState = "text",
  promptTokens = "number", completionTokens = "number", totalTokens = "number", estimatedCostUsd = "number" }

local function check_projection(state, where)
  check_fields(state, { run = "object", participants = "array", graph = "object", decision = "object",
    signals = "object", progress = "object", timeline = "object", policy = "object", trace = "object",
    outboundMessages = "object", llm = "object" }, where)
  check_fields(state.run, { runId = "text", status = STATUS, runtimeSessionId = "text?", startedAt = "time?",
    endedAt = "time?", traceId = "text?", modeName = "text?", contextId = "text?", extensionKeys = "array?" },
    where .. ".run")
  check_each(state.participants, { participantId = "text", role = "text?", status = PEOPLE,
    latestActivityAt = "time?", latestSummary = "string?" }, where .. ".participants")
  check_each(state.graph.nodes, { id = "text", status = PEOPLE,
    kind = one_of("start", "context", "proposal", "agent", "participant", "decision", "output") }, where .. ".nodes")
  local nodes = {}
  for _, node in ipairs(state.graph.nodes) do nodes[node.id] = true end
  for _, person in ipairs(state.participants) do assert.is_true(nodes[person.participantId], person.participantId) end
  check_each(state.graph.edges, { from = "text", to = "text", kind = "text", ts = "time" }, where .. ".edges")
  local current = state.decision.current
  if current then
    check_fields(current, { action = "text", confidence = "number?", reasons = "array?", finalized = "boolean",
      proposalId = "string?", resolvedAt = "time?", resolvedBy = "text?", prompt = "string?" }, where .. ".current")
    check_each(current.proposals, { participantId = "text", action = "text", confidence = "number?",
      reasons = "array", ts = "time" }, where .. ".proposals")
    for _, said in ipairs(current.proposals) do
      if said.vote ~= nil then check(said.vote, one_of("allow", "deny"), where .. ".vote") end
    end
    local outcome = current.outcomePositive
    assert.is_true(current.finalized == (outcome ~= nil))
  end
  check_each(state.signals.signals, { id = "text", name = "text", severity = "text?", sourceParticipantId = "text?",
    ts = "time", confidence = "number?", payload = "object?" }, where .. ".signals")
  check_each(state.progress.entries, { participantId = "text", percentage = "number?", message = "string?",
    ts = "time" }, where .. ".progress")
  check_fields(state.timeline, { latestSeq = "number", totalEvents = "number", recent = "array" }, where .. ".timeline")
  check_each(state.timeline.recent, { id = "text", seq = "number", ts = "time", type = "text", subject = "object?" },
    where .. ".recent")
  check_fields(state.policy, { policyVersion = "string", policyDescription = "string?", resolvedAt = "time?",
    commitmentEvaluations = "array", expectedCommitments = "array?", voteTally = "array?" }, where .. ".policy")
  if state.policy.voteTally then
    check_each(state.policy.voteTally, { commitmentId = "text", allow = "number", deny = "number",
      threshold = "number", quorum = "object" }, where .. ".voteTally")
    check(state.policy.quorumStatus, one_of("pending", "reached", "failed"), where .. ".quorumStatus")
  end
  check_fields(state.trace, { traceId = "text?", spanCount = "number", lastSpanId = "text?",
    linkedArtifacts = "array" }, where .. ".trace")
  check_fields(state.outboundMessages, { total = "number", queued = "number", accepted = "number",
    rejected = "number" }, where .. ".outboundMessages")
  check_each(state.llm.calls, { participantId = "text", model = "text?", promptTokens = "number",
    completionTokens = "number", totalTokens = "number", latencyMs = "number?", ts = "time", messageId = "text?",
    artifactId = "text?", estimatedCostUsd = "number?" }, where .. ".calls")
  check_fields(state.llm.totals, { callCount = "number", promptTokens = "number", completionTokens = "number",
    totalTokens = "number", estimatedCostUsd = "number" }, where .. ".totals")
end

-- Members of data by the type of the event.
local DATA = {
  ["message.received"] = { sender = "text", messageType = "text" },
  ["signal.emitted"] = { sender = "text", name = "text", severity = "text?", confidence = "number?" },
  ["llm.call.completed"] = { sender = "text", participantId = "text", decodedPayload = "object" },
  ["proposal.created"] = { sender = "text", action = "text", confidence = "number?", proposalId = "text" },
  ["proposal.updated"] = { sender = "text", action = "text", confidence = "number?", proposalId = "text" },
  ["decision.finalized"] = { action = "text", confidence = "number?", reasons = "array", commitmentId = "text" },
  ["progress.reported"] = { participantId = "text", percentage = "number?", message = "string?" },
  ["session.bound"] = { sessionId = "text", state = "text" },
  ["session.state.changed"] = { sessionId = "text", state = "text" },
  ["session.stream.opened"] = { sessionId = "text", status = "text" },
  ["tool.called"] = { name = "text", participantId = "text", durationMs = "number?" },
  ["participant.seen"] = { participantId = "text" },
}

local function check_event(event, run_id, where)
  check_fields(event, { id = "text", runId = "text", seq = "number", ts = "time", type = "text", data = "object",
    schemaVersion = "number", subject = "object?", source = "object", sourceName = "text", rawType = "text?",
    traceId = "text?" }, where)
  check(event.sourceKind, SOURCES, where .. ".sourceKind")
  assert.equal(run_id, event.runId)
  local subject, source = event.subject or {}, event.source
  assert.same({ subject.kind, subject.id, source.kind, source.name, source.rawType, (event.trace or {}).traceId },
    { event.subjectKind, event.subjectId, event.sourceKind, event.sourceName, event.rawType, event.traceId })
  if DATA[event.type] then check_fields(event.data, DATA[event.type], where .. " " .. event.type) end
end

describe("the console", function()
  local rig, registry
  local runs = {} -- by mode

  local function payload_of(mode, message_type, fields)
    if type(fields) == "string" then return fields end
    return (assert(registry:get(mode):codec(message_type):encode(fields)))
  end

  local function send(token, mode, id, message_type, payload)
    local ack = rig.runtime:send(token, client.envelope({ mode = mode, session_id = id, message_type = message_type,
      message_id = crypto.uuid4(), payload = payload, timestamp_unix_ms = sys.now_ms() }))
    assert.is_true(ack.ok, mode .. " " .. message_type .. ": " .. tostring(ack.error and ack.error.message))
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
