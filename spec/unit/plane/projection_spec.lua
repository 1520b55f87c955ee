-- The conformance vector of the data model document (section 9) with this project's corrections, and the rest of the
-- reducer rules.

local json = require("macp.core.json")

local fold = require("macp.plane.projection.fold")
local projection = require("macp.plane.projection.state")

local RUN = "7d444840-9dc0-4dc5-9a3e-3f0a30d7a1c4"
local SESSION = "4f0f5c0e-6c1c-4c55-9a67-2f6d1f0b9a11"

local function ts(second) return string.format("2026-02-03T10:00:%02d.000Z", second) end

-- A stored event (nested form); the projection folds these after a restart and lighter tables live.
local function stored(seq, second, event_type, subject_kind, subject_id, data)
  return {
    id = "e" .. seq, runId = RUN, seq = seq, ts = ts(second), type = event_type, schemaVersion = 3,
    subject = { kind = subject_kind, id = subject_id }, source = { kind = "runtime", name = "rust-runtime" },
      data = data,
  }
end

local function message(seq, second, message_type, sender, payload, derived, subject_kind, subject_id)
  local id = "m" .. seq
  local received = stored(seq, second, "message.received", "message", id,
    { messageType = message_type, messageId = id, sender = sender, sessionId = SESSION, payload = payload })
  local second_event = stored(seq + 1, second, derived, subject_kind, subject_id,
    { messageType = message_type, messageId = id, sender = sender, sessionId = SESSION, decodedPayload = payload })
  return received, second_event
end

local function opening()
  local events = {
    stored(1, 0, "run.created", "run", RUN, { status = "queued", modeName = "macp.mode.decision.v1" }),
    stored(2, 1, "run.started", "run", RUN, { status = "starting", startedAt = ts(1) }),
    stored(3, 2, "session.bound", "session", SESSION, { sessionId = SESSION, initiator = "lead",
      state = "SESSION_STATE_OPEN", policyVersion = "policy.default", participants = { "ann", "bob", "cy" } }),
  }
  for i, id in ipairs({ "ann", "bob", "cy" }) do
    events[#events + 1] = stored(3 + i, 2, "participant.seen", "participant", id, { participantId = id,
      status = "idle" })
  end
  events[#events + 1] = stored(7, 2, "session.state.changed", "session", SESSION,
    { sessionId = SESSION, state = "SESSION_STATE_OPEN" })
  events[#events + 1] = stored(8, 3, "participant.seen", "participant", "lead", { participantId = "lead" })
  return events
end

local function add(events, ...)
  for _, event in ipairs({ ... }) do events[#events + 1] = event end
end

local function sixteen()
  local events = opening()
  add(events, message(9, 3, "Proposal", "lead", { proposalId = "P", option = "ship", rationale = "green build" },
    "proposal.created", "proposal", "P"))
  add(events, message(11, 4, "Evaluation", "ann",
    { proposalId = "P", recommendation = "REVIEW", confidence = 0.6, reason = "check logs" },
    "proposal.updated", "proposal", "P"))
  add(events, message(13, 5, "Vote", "ann", { proposalId = "P", vote = "APPROVE" }, "proposal.updated", "proposal",
    "P"))
  add(events, message(15, 6, "Vote", "bob", { proposalId = "P", vote = "REJECT", reason = "risky" },
    "proposal.updated", "proposal", "P"))
  return events
end

local function nineteen()
  local events = sixteen()
  add(events, message(17, 7, "Commitment", "lead", { commitmentId = "C", action = "rejected", reason = "split vote" },
    "decision.finalized", "decision", "C"))
  add(events, stored(19, 8, "run.completed", "run", RUN, { status = "completed", endedAt = ts(8) }))
  return events
end

local function folded(events)
  local state = projection.new(RUN)
  for _, event in ipairs(events) do fold.apply(state, fold.from_stored(event)) end
  return state
end

local function document(events)
  return json.decode(projection.render(folded(events)))
end

local function by(list, key)
  local out = {}
  for _, item in ipairs(list) do out[item[key]] = item end
  return out
end

local function edges_text(graph)
  local out = {}
  for i, edge in ipairs(graph.edges) do out[i] = edge.from .. ">" .. edge.to .. " " .. edge.kind end
  return out
end

describe("the projection after 16 events of the vector", function()
  local doc = document(sixteen())

  it("shows a running run bound to its session", function()
    assert.equal("running", doc.run.status)
    assert.equal(SESSION, doc.run.runtimeSessionId)
    assert.equal("policy.default", doc.policy.policyVersion)
  end)

  it("shows what each participant last did; being addressed is not activity", function()
    local people = by(doc.participants, "participantId")
    assert.same({ participantId = "ann", status = "active", latestActivityAt = ts(5), latestSummary = "Vote" },
      people.ann)
    assert.same({ participantId = "bob", status = "active", latestActivityAt = ts(6), latestSummary = "Vote" },
      people.bob)
    assert.same({ participantId = "cy", status = "waiting" }, people.cy)
    assert.same({ participantId = "lead", status = "active", latestActivityAt = ts(3), latestSummary = "Proposal" },
      people.lead)
  end)

  it("draws the graph", function()
    local nodes = by(doc.graph.nodes, "id")
    local status = {}
    for id, node in pairs(nodes) do status[id] = node.status end
    assert.same({ ann = "active", bob = "active", cy = "waiting", lead = "active", __start = "completed",
      __proposal = "completed", __decision = "active" }, status)
    assert.same({
      "lead>__proposal proposes", "__proposal>ann review", "__proposal>bob review", "__proposal>cy review",
      "lead>ann Proposal", "lead>bob Proposal", "lead>cy Proposal", "ann>__decision evaluation", "ann>__decision vote",
      "bob>__decision vote",
    }, edges_text(doc.graph))
  end)

  it("collects contributions and the open decision", function()
    local current = doc.decision.current
    assert.equal("P", current.action)
    assert.equal(0.5, current.confidence)
    assert.same({ "risky" }, current.reasons)
    assert.is_false(current.finalized)
    assert.equal("P", current.proposalId)
    local said = {}
    for i, item in ipairs(current.proposals) do
      said[i] = { item.participantId, item.action, item.confidence or false, item.reasons, item.vote or false }
    end
    assert.same({
      { "lead", "ship", false, { "green build" }, false }, { "ann", "REVIEW", 0.6, { "check logs" }, false },
      { "ann", "APPROVE", 1, {}, "allow" }, { "bob", "REJECT", 1, { "risky" }, "deny" },
    }, said)
  end)

  it("counts votes of declared participants only", function()
    assert.same({ { commitmentId = "P", allow = 1, deny = 1, threshold = 2, quorum = { required = 3, cast = 2 } } },
      doc.policy.voteTally)
    assert.equal("pending", doc.policy.quorumStatus)
  end)
end)

describe("the projection after the vector's commitment", function()
  local doc = document(nineteen())

  it("completes the run; whoever never spoke was skipped", function()
    assert.equal("completed", doc.run.status)
    assert.equal(ts(8), doc.run.endedAt)
    local people = by(doc.participants, "participantId")
    assert.same({ "completed", "completed", "skipped", "completed" },
      { people.ann.status, people.bob.status, people.cy.status, people.lead.status })
    local nodes = by(doc.graph.nodes, "id")
    assert.equal("completed", nodes.__decision.status)
    assert.equal("completed", nodes.__outcome.status)
    assert.equal(11, #doc.graph.edges)
    assert.equal("__decision>__outcome commits", edges_text(doc.graph)[11])
  end)

  it("finalizes the decision with the polarity of its action", function()
    local current = doc.decision.current
    assert.equal(4, #current.proposals)
    current.proposals = nil
    assert.same({
      action = "rejected", confidence = 0.5, reasons = { "split vote" }, finalized = true, proposalId = "C",
      outcomePositive = false, resolvedAt = ts(7), resolvedBy = "lead",
    }, current)
    assert.is_false(doc.policy.outcomePositive)
    assert.equal(ts(7), doc.policy.resolvedAt)
    assert.equal("failed", doc.policy.quorumStatus)
    assert.equal(19, doc.timeline.latestSeq)
    assert.equal(19, doc.timeline.totalEvents)
    assert.equal(19, #doc.timeline.recent)
  end)
end)

describe("the projection", function()
  it("has every container before the first event", function()
    assert.equal('{"decision":{},"graph":{"edges":[],"nodes":[]},"llm":{"calls":[],"totals":{"callCount":0,'
      .. '"completionTokens":0,"estimatedCostUsd":0,"promptTokens":0,"totalTokens":0}},'
      .. '"outboundMessages":{"accepted":0,"queued":0,"rejected":0,"total":0},"participants":[],'
      .. '"policy":{"commitmentEvaluations":[],"policyVersion":""},'
      .. '"progress":{"entries":[]},"run":{"runId":"' .. RUN .. '","status":"queued"},"signals":{"signals":[]},'
      .. '"timeline":{"latestSeq":0,"recent":[],"totalEvents":0},"trace":{"linkedArtifacts":[],"spanCount":0}}',
      projection.render(projection.new(RUN), { sorted = true }))
  end)

  it("P12: is the same whether folded at once or stored and continued at any point", function()
    local events = nineteen()
    -- What agents paid for, and what was sent for them: these were forgotten elsewhere.
    local function paid(seq, who, prompt, completion, cost)
      return stored(seq, 8, "llm.call.completed", "participant", who, { sender = who, decodedPayload = {
        model = "gpt-4o", promptTokens = prompt, completionTokens = completion, estimatedCostUsd = cost } })
    end
    add(events, paid(20, "ann", 100, 50, 0.5))
    add(events, stored(21, 8, "message.sent", "message", "k1", { messageType = "Proposal", messageId = "k1" }))
    add(events, stored(22, 9, "message.send_failed", "message", "k2", { messageType = "Vote", messageId = "k2" }))
    add(events, paid(23, "bob", 1, 2, 0.25))
    local expected = projection.render(folded(events), { sorted = true })
    local told = json.decode(expected)
    assert.same({ { callCount = 2, promptTokens = 101, completionTokens = 52, totalTokens = 153,
      estimatedCostUsd = 0.75 }, { total = 2, queued = 0, accepted = 1, rejected = 1 } },
      { told.llm.totals, told.outboundMessages })
    for cut = 1, #events - 1 do
      local head = {}
      for i = 1, cut do head[i] = events[i] end
      local first = folded(head)
      local state = assert(projection.load(RUN, projection.render(first), projection.internal(first)))
      for i = cut + 1, #events do fold.apply(state, fold.from_stored(events[i])) end
      assert.equal(expected, projection.render(state, { sorted = true }))
    end
  end)

  it("lets the last vote of a participant count, and an abstention take it back", function()
    local events = sixteen()
    add(events, message(17, 7, "Vote", "bob", { proposalId = "P", vote = "APPROVE" }, "proposal.updated", "proposal",
      "P"))
    local tally = document(events).policy.voteTally[1]
    assert.same({ 2, 0, 2 }, { tally.allow, tally.deny, tally.quorum.cast })
    add(events, message(19, 8, "Vote", "ann", { proposalId = "P", vote = "ABSTAIN" }, "proposal.updated", "proposal",
      "P"))
    tally = document(events).policy.voteTally[1]
    assert.same({ 1, 0, 1 }, { tally.allow, tally.deny, tally.quorum.cast })
  end)

  it("uses the required approvals of an approval request as threshold", function()
    local events = opening()
    add(events, message(9, 3, "ApprovalRequest", "lead", { requestId = "Q", requiredApprovals = 3 }, "proposal.created",
      "proposal", "Q"))
    add(events, message(11, 4, "Approve", "ann", { requestId = "Q" }, "proposal.updated", "proposal", "Q"))
    local tally = document(events).policy.voteTally[1]
    assert.same({ "Q", 3, 1 }, { tally.commitmentId, tally.threshold, tally.allow })
  end)

  it("keeps what the mode says about a contribution", function()
    local events = opening()
    local received, updated = message(9, 3, "Reveal", "ann", { amount = 5 }, "proposal.updated", "proposal", "L")
    updated.data.action, updated.data.vote, updated.data.confidence = "bids 5", "deny", 0.25
    add(events, received, updated)
    local current = document(events).decision.current
    assert.same({ "bids 5", "deny", 0.25 },
      { current.proposals[1].action, current.proposals[1].vote, current.proposals[1].confidence })
  end)

  it("keeps the newest entries of capped lists and goes on counting", function()
    local state = projection.new(RUN)
    for seq = 1, 300 do
      fold.apply(state, fold.from_stored(stored(seq, 1, "progress.reported", "participant", "ann",
        { sender = "ann", decodedPayload = { percentage = seq } })))
    end
    local doc = json.decode(projection.render(state))
    assert.equal(50, #doc.timeline.recent)
    assert.equal(300, doc.timeline.recent[50].seq)
    assert.equal(251, doc.timeline.recent[1].seq)
    assert.equal(300, doc.timeline.totalEvents)
    assert.equal(100, #doc.progress.entries)
    assert.equal(300, doc.progress.entries[100].percentage)
  end)

  it("marks the participant that acted last when the run fails", function()
    local events = sixteen()
    add(events, stored(17, 9, "run.failed", "run", RUN, { status = "failed", endedAt = ts(9) }))
    local people = by(document(events).participants, "participantId")
    assert.same({ "completed", "failed", "skipped" }, { people.ann.status, people.bob.status, people.cy.status })
  end)

  it("acknowledges the signal that is named", function()
    local events = opening()
    add(events, stored(9, 3, "signal.emitted", "signal", "s1",
      { messageType = "Signal", sender = "ann", decodedPayload = { signalType = "budget.low", confidence = 0.5 } }))
    add(events, stored(10, 4, "signal.acknowledged", "signal", "s1",
      { messageType = "SignalAck", sender = "bob", decodedPayload = { signalId = "s1" } }))
    assert.same({ { id = "s1", name = "budget.low", sourceParticipantId = "ann", ts = ts(3), confidence = 0.5,
      payload = { signalType = "budget.low", confidence = 0.5 }, acknowledgedAt = ts(4), acknowledgedBy = "bob" } },
      document(events).signals.signals)
  end)

  it("has a rule or an exemption for every event type", function()
    for _, event_type in ipairs({
      "run.created", "run.started", "run.completed", "run.failed", "run.cancelled", "run.suspended", "run.resumed",
      "session.bound", "session.stream.opened", "session.state.changed", "participant.seen", "message.sent",
      "message.received", "message.send_failed", "signal.emitted", "signal.acknowledged", "proposal.created",
      "proposal.updated", "decision.proposed", "decision.finalized", "progress.reported", "tool.called",
      "tool.completed", "artifact.created", "policy.resolved", "policy.commitment.evaluated", "policy.denied",
      "llm.call.completed",
    }) do
      assert.is_true(fold.is_known(event_type), event_type)
    end
    assert.is_false(fold.is_known("made.up"))
  end)
end)
