-- What each message of the standard modes becomes: the rows of the mode message table, read by the modes' own normalizers
-- (protobuf payloads), and by nobody's (JSON payloads of a mode that was registered over the wire).

local json = require("macp.core.json")
local messages = require("macp.protocol.messages")

local batches = require("macp.plane.batch")
local binding = require("macp.plane.binding")
local normalize = require("macp.plane.normalize")
local run_module = require("macp.plane.run")
local mode_registry = require("macp.modes.registry")

local RUN = "7d444840-9dc0-4dc5-9a3e-3f0a30d7a1c4"
local NOW = 1770112800000

-- Each mode: { message type, fields, event, subject id, vote, further checks of the payload }. In an order that the
-- modes accept.
local MODES = {
  ["macp.mode.decision.v1"] = { package = "macp.modes.decision.v1", rows = {
    { "Proposal", { proposal_id = "p", option = "ship", rationale = "green", supporting_data = "\1\2" },
      "proposal.created", "p", shows = { proposalId = "p", option = "ship", rationale = "green",
        supportingData = "AQI=" } },
    { "Evaluation", { proposal_id = "p", recommendation = "APPROVE", confidence = 0.5 }, "proposal.updated", "p",
      "allow" },
    { "Evaluation", { proposal_id = "p", recommendation = "REVIEW", confidence = 0.6, reason = "look" },
      "proposal.updated", "p", shows = { proposalId = "p", recommendation = "REVIEW", confidence = 0.6,
        reason = "look" } },
    { "Evaluation", { proposal_id = "p", recommendation = "BLOCK" }, "proposal.updated", "p", "deny" },
    { "Evaluation", { proposal_id = "p", recommendation = "REJECT" }, "proposal.updated", "p", "deny" },
    { "Objection", { proposal_id = "p", reason = "no", severity = "critical" }, "proposal.updated", "p" },
    { "Vote", { proposal_id = "p", vote = "APPROVE" }, "proposal.updated", "p", "allow" },
    { "Vote", { proposal_id = "p", vote = "REJECT" }, "proposal.updated", "p", "deny", from = "bob" },
    { "Vote", { proposal_id = "p", vote = "ABSTAIN" }, "proposal.updated", "p", from = "cy" },
  } },
  ["macp.mode.proposal.v1"] = { package = "macp.modes.proposal.v1", rows = {
    { "Proposal", { proposal_id = "p", title = "t", summary = "s", details = "\1", tags = { "a" } },
      "proposal.created", "p", shows = { proposalId = "p", title = "t", summary = "s", details = "AQ==",
        tags = { "a" } } },
    { "CounterProposal", { proposal_id = "q", supersedes_proposal_id = "p", title = "u" }, "proposal.created", "q",
      from = "bob", shows = { proposalId = "q", supersedesProposalId = "p", title = "u" } },
    { "Accept", { proposal_id = "q", reason = "r" }, "proposal.updated", "q", "allow" },
    { "Reject", { proposal_id = "q", terminal = true }, "proposal.updated", "q", "deny", from = "cy",
      shows = { proposalId = "q", terminal = true } },
    { "Withdraw", { proposal_id = "q", reason = "r" }, "proposal.updated", "q", from = "bob" },
  } },
  ["macp.mode.task.v1"] = { package = "macp.modes.task.v1", rows = {
    { "TaskRequest", { task_id = "t", title = "x", instructions = "do", requested_assignee = "bob", input = "\1",
      deadline_unix_ms = 5 }, "proposal.created", "t", from = "lead", shows = { taskId = "t", title = "x",
        instructions = "do", requestedAssignee = "bob", input = "AQ==", deadlineUnixMs = 5 } },
    { "TaskReject", { task_id = "t", assignee = "cy", reason = "r" }, "proposal.updated", "t", "deny", from = "cy" },
    { "TaskAccept", { task_id = "t", assignee = "bob" }, "proposal.updated", "t", "allow", from = "bob" },
    { "TaskUpdate", { task_id = "t", status = "working", progress = 0.5 }, "proposal.updated", "t", from = "bob",
      progress = { percentage = 50, message = "working" } },
    { "TaskUpdate", { task_id = "t", status = "working", progress = 80, message = "soon" }, "proposal.updated", "t",
      from = "bob", progress = { percentage = 80, message = "soon" } },
    { "TaskUpdate", { task_id = "t", status = "working" }, "proposal.updated", "t", from = "bob" },
    { "TaskFail", { task_id = "t", assignee = "bob", error_code = "E", reason = "broke", retryable = true },
      "proposal.updated", "t", from = "bob", progress = { message = "broke" } },
  } },
  ["task, completed"] = { mode = "macp.mode.task.v1", package = "macp.modes.task.v1", rows = {
    { "TaskRequest", { task_id = "t" }, "proposal.created", "t", from = "lead" },
    { "TaskAccept", { task_id = "t" }, "proposal.updated", "t", "allow", from = "bob" },
    { "TaskComplete", { task_id = "t", assignee = "bob", output = "\1", summary = "s" }, "proposal.updated", "t",
      from = "bob", progress = { percentage = 100, message = "completed" } },
  } },
  ["macp.mode.handoff.v1"] = { package = "macp.modes.handoff.v1", rows = {
    { "HandoffOffer", { handoff_id = "h", target_participant = "bob", scope = "s", reason = "r" },
      "proposal.created", "h", from = "lead", shows = { handoffId = "h", targetParticipant = "bob", scope = "s",
        reason = "r" } },
    { "HandoffContext", { handoff_id = "h", content_type = "text/plain", context = "\1" }, "proposal.updated", "h",
      from = "lead", shows = { handoffId = "h", contentType = "text/plain", context = "AQ==" } },
    { "HandoffDecline", { handoff_id = "h", declined_by = "bob", reason = "r" }, "proposal.updated", "h", "deny",
      from = "bob" },
    { "HandoffOffer", { handoff_id = "i", target_participant = "bob" }, "proposal.created", "i", from = "lead" },
    { "HandoffAccept", { handoff_id = "i", accepted_by = "bob" }, "proposal.updated", "i", "allow", from = "bob" },
  } },
  ["macp.mode.quorum.v1"] = { package = "macp.modes.quorum.v1", rows = {
    { "ApprovalRequest", { request_id = "q", action = "deploy", summary = "s", details = "\1",
      required_approvals = 2 }, "proposal.created", "q", from = "lead", shows = { requestId = "q", action = "deploy",
        summary = "s", details = "AQ==", requiredApprovals = 2 } },
    { "Approve", { request_id = "q", reason = "r" }, "proposal.updated", "q", "allow" },
    { "Reject", { request_id = "q" }, "proposal.updated", "q", "deny", from = "bob" },
    { "Abstain", { request_id = "q" }, "proposal.updated", "q", from = "cy" },
  } },
  ["ext.multi_round.v1"] = { package = "macp.modes.multi_round.v1", rows = {
    { "Contribute", { value = "blue" }, "proposal.updated", "m2", shows = { value = "blue" } },
  } },
}

local registry

local function new_run(mode)
  local writer = { open = batches.new(), owner = {} }
  function writer:open_for(run)
    self.open:own(run)
    return self.open
  end
  local run = run_module.new({ tenant = "default", id = RUN, session_id = "s", kind = "rust", status = "running",
    created_ms = NOW }, writer)
  local session = binding.session_of({ mode = mode, initiator = "lead", participants = { "lead", "ann", "bob", "cy" },
    mode_version = "1.0.0", started_at_unix_ms = NOW })
  run:bind(session, registry:get(mode))
  return run
end

local count = 0

-- Sends one message; its events, decoded.
local function take(run, message_type, payload, sender)
  local entry = run.writer.open.by_run[run]
  local before = entry and entry.n or 0
  count = count + 1
  normalize.envelope(run, { macp_version = "1.0", mode = run.mode_name, message_type = message_type,
    message_id = "m" .. count, session_id = "s", sender = sender or "ann", timestamp_unix_ms = NOW + count,
    payload = payload }, NOW + count, count, NOW + count)
  entry = run.writer.open.by_run[run]
  local events = {}
  for i = before + 1, entry.n do events[#events + 1] = json.decode(entry.documents[i]) end
  return events
end

local function of_type(events, ...)
  local out = {}
  for _, event in ipairs(events) do
    for _, name in ipairs({ ... }) do
      if event.type == name then out[#out + 1] = event end
    end
  end
  return out
end

-- A payload as agents that speak JSON write it.
local function as_json(name, fields)
  local codec = messages.codec(name, { names = "json", bytes = "base64", defaults = false })
  return assert(codec:decode(messages.codec(name):encode(fields)))
end

-- What the row says and what came of it.
local function check(row, run, events)
  local received = of_type(events, "message.received")
  assert.equal(1, #received)
  local derived = of_type(events, "proposal.created", "proposal.updated")
  assert.equal(1, #derived, "events derived of " .. row[1])
  local event = derived[1]
  assert.same({ row[3], { kind = "proposal", id = row[4] }, row[1], row.from or "ann", row[4] },
    { event.type, event.subject, event.data.messageType, event.data.sender, event.data.proposalId })
  assert.same({ "proposal", row[4], "runtime", "rust-runtime", row[1] },
    { event.subjectKind, event.subjectId, event.sourceKind, event.sourceName, event.rawType })
  assert.is_string(event.data.action)
  local contributions = run.state.proposals:items()
  assert.equal(row[5], contributions[#contributions].vote, "vote of " .. row[1])
  if row.shows then
    local shown = event.data.decodedPayload.json or event.data.decodedPayload
    assert.same(row.shows, shown)
  end
  local progress = of_type(events, "progress.reported")
  assert.equal(row.progress and 1 or 0, #progress)
  if row.progress then
    assert.same(row.progress, progress[1].data.decodedPayload)
    assert.same({ row.from, row.progress.percentage, row.progress.message },
      { progress[1].data.participantId, progress[1].data.percentage, progress[1].data.message })
  end
end

describe("the messages of", function()
  setup(function()
    registry = mode_registry.new({ dirs = {}, depth = "off" })
    assert(registry:load_all())
  end)
  teardown(function() registry:close() end)

  for name, mode in pairs(MODES) do
    it(name .. " become what the table says, read by the mode", function()
      count = 0
      local run = new_run(mode.mode or name)
      assert.is_not_nil(run.rev)
      take(run, "SessionStart", messages.codec("macp.v1.SessionStartPayload"):encode({
        participants = { "lead", "ann", "bob", "cy" }, ttl_ms = 60000, mode_version = "1.0.0" }), "lead")
      assert.is_true(run.rev_started)
      for _, row in ipairs(mode.rows) do
        local payload = messages.codec(mode.package .. "." .. row[1] .. "Payload"):encode(row[2])
        check(row, run, take(run, row[1], payload, row.from))
        assert.is_nil(run.degraded)
      end
    end)

    it(name .. " become the same in a mode that nobody reads, by what their type and JSON say", function()
      count = 1
      local run = new_run("ext.unknown.v1")
      assert.is_nil(run.rev)
      for _, row in ipairs(mode.rows) do
        local shown = row.shows or as_json(mode.package .. "." .. row[1] .. "Payload", row[2])
        check(row, run, take(run, row[1], json.encode(shown), row.from))
      end
    end)
  end
end)

describe("messages of a mode that nobody reads", function()
  setup(function()
    registry = mode_registry.new({ dirs = {}, depth = "off" })
    assert(registry:load_all())
  end)
  teardown(function() registry:close() end)

  it("concern themselves when they name no proposal, and are shown as they are", function()
    count = 0
    local run = new_run("ext.unknown.v1")
    local event = of_type(take(run, "Vote", "\255\254"), "proposal.updated")[1]
    assert.same({ kind = "proposal", id = "m1" }, event.subject)
    assert.same({ text = "\239\191\189\239\191\189", encoding = "text", payloadBase64 = "//4=" },
      event.data.decodedPayload)
    assert.same({ "Vote", "m1", 1 }, { event.data.action, event.data.proposalId, event.data.confidence })
    event = of_type(take(run, "Vote", '{"proposalId":"p1","vote":"yes"}'), "proposal.updated")[1]
    assert.same({ "p1", "yes", "allow", { json = { proposalId = "p1", vote = "yes" }, encoding = "json" } },
      { event.subject.id, event.data.action, event.data.vote, event.data.decodedPayload })
  end)

  it("are only received when their type says nothing", function()
    count = 0
    local run = new_run("ext.unknown.v1")
    local types = {}
    for _, event in ipairs(take(run, "Ping", "")) do types[#types + 1] = event.type end
    assert.same({ "participant.seen", "message.received" }, types)
  end)
end)
