-- The fold: one canonical event changes the projection of its run. Constant work per event; the same events always
-- give the same projection. An event here is { seq, ts (ISO), type, subject_kind, subject_id, trace_id, span_id, data }
-- and is only read during the call.

local json = require("macp.core.json")
local time = require("macp.core.time")

local amounts = require("macp.plane.amounts")
local plain = require("macp.plane.plain")
local decisions = require("macp.plane.projection.decisions")
local people = require("macp.plane.projection.people")
local projection = require("macp.plane.projection.state")
local session_clock = require("macp.plane.session_clock")

local text, number = plain.text, plain.number
local touch, edge, node = people.touch, people.edge, people.node

local EMPTY = {}

local function payload_of(data) return plain.payload(data) or EMPTY end

local function close(state, outcome)
  people.sweep(state, outcome)
end

local function on_run(state, event)
  local data, run = event.data, state.run
  run.status = text(data.status) or run.status
  run.runtimeSessionId = text(data.runtimeSessionId) or run.runtimeSessionId
  run.startedAt = text(data.startedAt) or run.startedAt
  run.endedAt = text(data.endedAt) or run.endedAt
  run.traceId = text(data.traceId) or run.traceId
  run.modeName = text(data.modeName) or run.modeName
  if event.type == "run.created" and text(data.decisionPrompt) then
    state.decision.current = state.decision.current or { action = "", finalized = false }
    state.decision.current.prompt = data.decisionPrompt
  end
end

local function settle_quorum(state)
  local policy = state.policy
  if policy.quorumStatus ~= nil and policy.quorumStatus ~= "pending" then return end
  policy.quorumStatus = "failed"
  for _, evaluation in ipairs(state.evaluations:items()) do
    if evaluation.decision == "allow" then policy.quorumStatus = "reached" end
  end
end

local function on_run_end(state, event)
  on_run(state, event)
  local outcome = event.type:match("^run%.(.+)$")
  close(state, outcome)
  if outcome ~= "completed" then settle_quorum(state) end
end

-- Suspensions stop the session's clock.
local function follow_clock(clock, event)
  local name = event.type == "session.state.changed" and text(event.data.state) or event.type
  if name == "run.suspended" or name == "SESSION_STATE_SUSPENDED" then
    session_clock.suspend(clock, time.parse_iso(event.ts))
  elseif name == "run.resumed" or name == "SESSION_STATE_OPEN" then
    session_clock.resume(clock, time.parse_iso(event.ts))
  end
end

local function on_run_pause(state, event)
  follow_clock(state.clock, event)
  local data, run = event.data, state.run
  run.status = text(data.status) or run.status
  run.runtimeSessionId = text(data.runtimeSessionId) or run.runtimeSessionId
  run.traceId = text(data.traceId) or run.traceId
end

local STARTING = { queued = true, starting = true, binding_session = true, suspended = true }
local TERMINAL = { completed = true, failed = true, cancelled = true }
local ENDINGS = { RESOLVED = "completed", EXPIRED = "failed", CANCELLED = "cancelled" }

local function on_session_state(state, event)
  if event.type == "session.state.changed" then follow_clock(state.clock, event) end
  local data, run = event.data, state.run
  run.runtimeSessionId = text(data.sessionId) or run.runtimeSessionId
  run.contextId = text(data.contextId) or run.contextId
  if type(data.extensionKeys) == "table" then run.extensionKeys = json.array(data.extensionKeys) end
  local name = text(data.state) and data.state:gsub("^SESSION_STATE_", "") or nil
  local ending = ENDINGS[name]
  if ending then
    run.status = ending
    close(state, ending)
  elseif name == "SUSPENDED" then
    if not TERMINAL[run.status] then run.status = "suspended" end
  elseif name == "OPEN" and event.type == "session.state.changed" and STARTING[run.status] then
    run.status = "running"
  end
end

-- Readers know what is expected as `id` or as `commitmentId`: they find both.
local function expected_commitments(told)
  local out = json.array({})
  for _, item in ipairs(told) do
    if type(item) == "table" then
      item.commitmentId = text(item.commitmentId) or text(item.id)
      item.id = text(item.id) or item.commitmentId
      out[#out + 1] = item
    end
  end
  return out
end

local function on_bound(state, event)
  local data = event.data
  for _, id in ipairs(type(data.participants) == "table" and data.participants or EMPTY) do
    state.declared[id] = true
  end
  state.initiator = text(data.initiator) or state.initiator
  state.policy.policyVersion = text(data.policyVersion) or state.policy.policyVersion
  state.required_of = nil
  if type(data.expectedCommitments) == "table" then
    state.policy.expectedCommitments = expected_commitments(data.expectedCommitments)
    if #data.expectedCommitments > 0 and state.policy.quorumStatus == nil then
      state.policy.quorumStatus = "pending"
    end
  end
  on_session_state(state, event)
end

local function on_seen(state, event)
  local id = text(event.data.participantId)
  if id then people.add(state, id, text(event.data.role)) end
end

local function on_sent(state, event)
  local data = event.data
  local sender = text(data.sender) or text(data.from)
  touch(state, sender, event.ts, "active", text(data.messageType))
  for _, recipient in ipairs(type(data.to) == "table" and data.to or EMPTY) do
    touch(state, recipient, nil, "waiting")
    edge(state, sender, recipient, "message.sent", event.ts)
  end
  state.outbound.total = state.outbound.total + 1
  state.outbound.accepted = state.outbound.accepted + 1
end

local function on_send_failed(state)
  state.outbound.total = state.outbound.total + 1
  state.outbound.rejected = state.outbound.rejected + 1
end

-- Whom a message addresses: said by the event, or implied by its type.
local function recipients_of(state, data, body, sender)
  if type(data.to) == "table" and #data.to > 0 then return data.to end
  local out = {}
  if data.messageType == "SessionStart" then
    local declared = body.participants or body.participantIds
    for _, id in ipairs(type(declared) == "table" and declared or EMPTY) do
      if type(id) == "string" and id ~= sender then out[#out + 1] = id end
    end
  elseif data.messageType == "Proposal" then
    for _, person in ipairs(state.participants) do
      if person.participantId ~= sender then out[#out + 1] = person.participantId end
    end
  end
  return out
end

local BALLOTS = { Vote = "vote", Evaluation = "evaluation", Objection = "objection" }

local function draw_start(state, sender, recipients, ts)
  edge(state, "__start", sender, "session.bound", ts)
  for _, recipient in ipairs(recipients) do edge(state, sender, recipient, "fanout", ts) end
end

local function draw_proposal(state, sender, recipients, ts)
  node(state, "__proposal", "proposal", "completed")
  edge(state, sender, "__proposal", "proposes", ts)
  for _, recipient in ipairs(recipients) do edge(state, "__proposal", recipient, "review", ts) end
end

local function on_received(state, event)
  local data, ts = event.data, event.ts
  local message_type, sender = data.messageType, data.sender
  local body = data.decodedPayload or data.payload
  if type(body) ~= "table" then body = EMPTY end
  touch(state, sender, ts, "active", message_type)
  local recipients = recipients_of(state, data, body, sender)
  for _, recipient in ipairs(recipients) do touch(state, recipient, nil, "waiting") end
  node(state, "__start", "start", "completed")
  if message_type == "SessionStart" then
    draw_start(state, sender, recipients, ts)
  elseif message_type == "Proposal" then
    draw_proposal(state, sender, recipients, ts)
  elseif BALLOTS[message_type] then
    node(state, "__decision", "decision", "active")
    edge(state, sender, "__decision", BALLOTS[message_type], ts)
  elseif message_type == "Commitment" then
    node(state, "__decision", "decision", "completed")
    node(state, "__outcome", "output", "completed")
    edge(state, "__decision", "__outcome", "commits", ts)
  end
  for _, recipient in ipairs(recipients) do edge(state, sender, recipient, message_type, ts) end
end

local function on_signal(state, event)
  local data = event.data
  local payload = payload_of(data)
  local signal = {
    id = event.subject_id or event.id, name = text(payload.signalType) or text(data.messageType) or "Signal",
    severity = text(payload.severity) or text(data.severity), sourceParticipantId = text(data.sender), ts = event.ts,
    confidence = number(payload.confidence), payload = payload ~= EMPTY and payload or nil,
  }
  local evicted = state.signals:push(signal)
  if evicted and state.signal_by_id[evicted.id] == evicted then state.signal_by_id[evicted.id] = nil end
  if state.signal_by_id[signal.id] == nil then state.signal_by_id[signal.id] = signal end
end

local function on_acknowledged(state, event)
  local payload = payload_of(event.data)
  local target = text(payload.signalId) or text(payload.signal_id) or event.subject_id
  local signal = target and state.signal_by_id[target]
  if signal == nil then return end
  signal.acknowledgedAt, signal.acknowledgedBy = event.ts, text(event.data.sender)
end

local function on_progress(state, event)
  local data = event.data
  local payload = payload_of(data)
  state.progress:push({
    participantId = text(data.sender) or "", percentage = number(payload.percentage) or number(payload.progress),
    message = text(payload.message) or text(payload.status) or "", ts = event.ts,
  })
end

local function on_artifact(state, event)
  local id = event.subject_id or event.id
  if id and not state.artifact_set[id] then
    state.artifact_set[id] = true
    state.artifacts[#state.artifacts + 1] = id
  end
end

local function on_policy_resolved(state, event)
  local payload = payload_of(event.data)
  state.policy.policyVersion = text(payload.policyVersion) or text(event.data.policyVersion) or ""
  state.policy.policyDescription = text(payload.description) or ""
  state.policy.resolvedAt = event.ts
end

local function on_policy_evaluated(state, event)
  local payload = payload_of(event.data)
  local decision = text(payload.decision) or "allow"
  state.evaluations:push({
    commitmentId = text(payload.commitmentId) or event.subject_id or "", decision = decision,
    reasons = json.array(type(payload.reasons) == "table" and payload.reasons or {}), ts = event.ts,
  })
  if decision == "allow" then state.policy.quorumStatus = "reached" end
end

local function on_llm_call(state, event)
  local data, payload = event.data, payload_of(event.data)
  local prompt, completion = amounts.count(payload.promptTokens), amounts.count(payload.completionTokens)
  local total = amounts.measured(payload.totalTokens) and amounts.count(payload.totalTokens) or prompt + completion
  local cost = amounts.measured(payload.estimatedCostUsd)
  state.calls:push({
    participantId = text(data.sender) or "", model = text(payload.model), promptTokens = prompt,
    completionTokens = completion, totalTokens = total, latencyMs = amounts.measured(payload.latencyMs), ts = event.ts,
    messageId = text(data.messageId), artifactId = text(payload.artifactId), estimatedCostUsd = cost,
  })
  local totals = state.llm
  totals.callCount = totals.callCount + 1
  totals.promptTokens = totals.promptTokens + prompt
  totals.completionTokens = totals.completionTokens + completion
  totals.totalTokens = totals.totalTokens + total
  totals.estimatedCostUsd = totals.estimatedCostUsd + (cost or 0)
end

local function on_proposal(state, event) decisions.proposal(state, event) end

local RULES = {
  ["run.created"] = on_run, ["run.started"] = on_run,
  ["run.completed"] = on_run_end, ["run.failed"] = on_run_end, ["run.cancelled"] = on_run_end,
  ["run.suspended"] = on_run_pause, ["run.resumed"] = on_run_pause,
  ["session.bound"] = on_bound, ["session.state.changed"] = on_session_state,
  ["participant.seen"] = on_seen,
  ["message.sent"] = on_sent, ["message.send_failed"] = on_send_failed, ["message.received"] = on_received,
  ["signal.emitted"] = on_signal, ["signal.acknowledged"] = on_acknowledged,
  ["proposal.created"] = on_proposal, ["proposal.updated"] = on_proposal,
  ["decision.finalized"] = function(state, event) decisions.finalize(state, event) end,
  ["progress.reported"] = on_progress, ["artifact.created"] = on_artifact,
  ["policy.resolved"] = on_policy_resolved, ["policy.commitment.evaluated"] = on_policy_evaluated,
  ["llm.call.completed"] = on_llm_call,
}

-- Types that only the common part looks at. A mode's own types are named ext.<mode>.<name>.
local EXEMPT = {
  ["decision.proposed"] = true, ["session.stream.opened"] = true, ["tool.called"] = true, ["tool.completed"] = true,
  ["policy.denied"] = true,
}

local M = {}

---Applies one event.
---@param state table of projection/state.lua
---@param event table
function M.apply(state, event)
  projection.note(state, event)
  if event.trace_id then state.trace.traceId = event.trace_id end
  local span = event.span_id
  if span and span ~= state.trace.lastSpanId then
    state.trace.lastSpanId = span
    state.trace.spanCount = state.trace.spanCount + 1
  end
  local rule = RULES[event.type]
  if rule then rule(state, event) end
end

---Lets the clock of a session follow an event that may suspend or resume it.
M.follow_clock = follow_clock

---An event of the stored JSON form (nested) as the fold wants it.
---@param stored table decoded document
function M.from_stored(stored)
  local subject, trace = stored.subject or EMPTY, stored.trace or EMPTY
  return {
    id = stored.id, seq = stored.seq, ts = stored.ts, type = stored.type, subject_kind = subject.kind,
    subject_id = text(subject.id), trace_id = trace.traceId, span_id = trace.spanId, data = stored.data or EMPTY,
  }
end

---true when the type has a rule, is exempt, or belongs to a mode.
function M.is_known(event_type)
  return RULES[event_type] ~= nil or EXEMPT[event_type] == true or event_type:find("^ext%.") ~= nil
end

return M
