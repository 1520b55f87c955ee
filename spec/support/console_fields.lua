-- What the web console relies on in answers: names, types and sets of values, and their checks.

local assert = require("luassert")

local json = require("macp.core.json")

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

return {
  STATUS = STATUS,
  one_of = one_of,
  check = check,
  check_fields = check_fields,
  check_each = check_each,
  ROW = ROW,
  METRICS = METRICS,
  check_projection = check_projection,
  check_event = check_event,
}
