-- What the plane shows of a session of each standard mode: the projection that every mode shares, and the mode's own.

local crypto = require("host.crypto")
local sys = require("host.sys")

local plane_rig = require("spec.support.plane_rig")
local runtime = require("spec.support.runtime_client")

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

describe("the projection", function()
  local rig

  setup(function() rig = plane_rig.start() end)
  teardown(function() rig:destroy() end)

  -- Announces a run, plays { sender, type, payload } and a commitment by boss, and returns the final projection.
  local function play(mode, participants, messages, action, positive)
    local session_id, mode_id = crypto.uuid4(), "macp.mode." .. mode .. ".v1"
    local body = plane_rig.descriptor(session_id)
    body.session.modeName, body.session.participants = mode_id, {}
    for i, name in ipairs(participants) do body.session.participants[i] = { id = name } end
    local status, accepted = rig:post("/runs", body)
    assert.equal(202, status)
    local function send(token, message_type, payload)
      local ack = rig.runtime:send(token, runtime.envelope({ mode = mode_id, message_type = message_type,
        message_id = crypto.uuid4(), session_id = session_id, payload = payload, timestamp_unix_ms = sys.now_ms() }))
      assert(ack.ok, message_type .. ": " .. tostring(ack.error and ack.error.message))
    end
    local ack = rig.runtime:send("boss", runtime.start_envelope(session_id, { participants = participants },
      { mode = mode_id }))
    assert(ack.ok, ack.error and ack.error.message)
    for _, message in ipairs(messages) do
      send(message[1], message[2], runtime.payload(string.format("macp.modes.%s.v1.%sPayload", mode, message[2]),
        message[3]))
    end
    send("boss", "Commitment", runtime.payload("macp.v1.CommitmentPayload", { commitment_id = "c1", action = action,
      authority_scope = "team", reason = "as agreed", mode_version = "1.0.0", configuration_version = "config.default",
      outcome_positive = positive }))
    rig:await(accepted.runId, "completed")
    local _, state = rig:get("/runs/" .. accepted.runId .. "/state")
    assert.equal(mode_id, state.mode.id)
    assert.is_false(state.mode.degraded)
    return state
  end

  -- Contributions as { sender, action, vote or false }.
  local function said(state)
    local out = {}
    for i, item in ipairs(state.decision.current.proposals) do
      out[i] = { item.participantId, item.action, item.vote or false }
    end
    return out
  end

  it("of a quorum shows the request, its ballots and the bar", function()
    local state = play("quorum", { "ann", "bob", "cy" }, {
      { "boss", "ApprovalRequest", { request_id = "r1", action = "release", summary = "4.2", required_approvals = 2 } },
      { "ann", "Approve", { request_id = "r1", reason = "tested" } },
      { "cy", "Abstain", { request_id = "r1" } },
      { "bob", "Approve", { request_id = "r1" } },
    }, "quorum.approved", true)
    assert.same({ { "boss", "release", false }, { "ann", "Approve", "allow" }, { "cy", "Abstain", false },
      { "bob", "Approve", "allow" } }, said(state))
    assert.same({ { commitmentId = "r1", allow = 2, deny = 0, threshold = 2, quorum = { required = 3, cast = 2 } } },
      state.policy.voteTally)
    assert.same({ "reached", true }, { state.policy.quorumStatus, state.policy.outcomePositive })
    assert.same({ "quorum.approved", true, true }, { state.decision.current.action, state.decision.current.finalized,
      state.decision.current.outcomePositive })
    assert.same({ approve = 2, reject = 0, abstain = 1, participants = 3 }, state.mode.view.tally)
    assert.equal("approved", state.mode.view.status)
  end)

  it("of a quorum that failed says so", function()
    local state = play("quorum", { "ann", "bob" }, {
      { "boss", "ApprovalRequest", { request_id = "r1", required_approvals = 2 } },
      { "ann", "Reject", { request_id = "r1", reason = "untested" } },
    }, "quorum.rejected", false)
    assert.same({ { "boss", "ApprovalRequest", false }, { "ann", "Reject", "deny" } }, said(state))
    assert.same({ "failed", false }, { state.policy.quorumStatus, state.policy.outcomePositive })
    assert.is_false(state.decision.current.outcomePositive)
    assert.equal("unreachable", state.mode.view.status)
  end)

  it("of a task shows the assignment, progress and the report", function()
    local state = play("task", { "ann", "bob" }, {
      { "boss", "TaskRequest", { task_id = "t1", title = "index", input = "\0" } },
      { "bob", "TaskReject", { task_id = "t1", reason = "busy" } },
      { "ann", "TaskAccept", { task_id = "t1" } },
      { "ann", "TaskUpdate", { task_id = "t1", status = "running", progress = 0.5, message = "half way" } },
      { "ann", "TaskComplete", { task_id = "t1", output = "\1\2", summary = "built" } },
    }, "task.completed", true)
    assert.same({ { "boss", "TaskRequest", false }, { "bob", "TaskReject", "deny" }, { "ann", "TaskAccept", "allow" },
      { "ann", "TaskUpdate", false }, { "ann", "TaskComplete", false } }, said(state))
    assert.same({ { "ann", 50, "half way" }, { "ann", 100, "completed" } }, (function()
      local out = {}
      for i, entry in ipairs(state.progress.entries) do
        out[i] = { entry.participantId, entry.percentage, entry.message }
      end
      return out
    end)())
    assert.same({ "task.completed", true }, { state.decision.current.action, state.decision.current.outcomePositive })
    assert.same({ by = "ann", outcome = "completed", summary = "built", output_bytes = 2 }, state.mode.view.report)
    assert.equal("completed", state.mode.view.status)
  end)

  it("of a task that failed says so", function()
    local state = play("task", { "ann" }, {
      { "boss", "TaskRequest", { task_id = "t1" } }, { "ann", "TaskAccept", { task_id = "t1" } },
      { "ann", "TaskFail", { task_id = "t1", error_code = "E1", reason = "no disk" } },
    }, "task.failed", false)
    assert.same({ "failed", false }, { state.policy.quorumStatus, state.policy.outcomePositive })
    assert.equal("no disk", state.progress.entries[1].message)
    assert.same({ "failed", "E1" }, { state.mode.view.status, state.mode.view.report.error_code })
  end)

  it("of a negotiation shows the proposals, their answers and what was converged on", function()
    local state = play("proposal", { "ann", "bob" }, {
      { "ann", "Proposal", { proposal_id = "p1", title = "ten", summary = "at ten", details = "\0" } },
      { "bob", "Reject", { proposal_id = "p1", reason = "too much" } },
      { "bob", "CounterProposal", { proposal_id = "p2", supersedes_proposal_id = "p1" } },
      { "bob", "Accept", { proposal_id = "p2" } },
      { "ann", "Accept", { proposal_id = "p2" } },
    }, "proposal.accepted", true)
    assert.same({ { "ann", "Proposal", false }, { "bob", "Reject", "deny" }, { "bob", "CounterProposal", false },
      { "bob", "Accept", "allow" }, { "ann", "Accept", "allow" } }, said(state))
    local tally = {}
    for i, entry in ipairs(state.policy.voteTally) do tally[i] = { entry.commitmentId, entry.allow, entry.deny } end
    assert.same({ { "p1", 0, 1 }, { "p2", 2, 0 } }, tally)
    assert.same({ "reached", true }, { state.policy.quorumStatus, state.policy.outcomePositive })
    assert.same({ "Committed", "p2", 2 }, { state.mode.view.phase, state.mode.view.converged_on,
      state.mode.view.proposal_count })
  end)

  it("of a negotiation that failed says so", function()
    local state = play("proposal", { "ann", "bob" }, {
      { "ann", "Proposal", { proposal_id = "p1", title = "ten" } },
      { "bob", "Reject", { proposal_id = "p1", terminal = true, reason = "never" } },
    }, "proposal.rejected", false)
    assert.same({ "failed", false }, { state.policy.quorumStatus, state.policy.outcomePositive })
    assert.equal("never", state.mode.view.terminal_rejections[1].reason)
  end)

  it("of a handoff shows the offers, their answers and the new owner", function()
    local state = play("handoff", { "boss", "ann", "bob" }, {
      { "boss", "HandoffOffer", { handoff_id = "h1", target_participant = "ann", scope = "billing" } },
      { "ann", "HandoffDecline", { handoff_id = "h1", reason = "busy" } },
      { "boss", "HandoffOffer", { handoff_id = "h2", target_participant = "bob" } },
      { "boss", "HandoffContext", { handoff_id = "h2", content_type = "text/plain", context = "notes" } },
      { "bob", "HandoffAccept", { handoff_id = "h2", reason = "mine" } },
    }, "handoff.accepted", true)
    assert.same({ { "boss", "HandoffOffer", false }, { "ann", "HandoffDecline", "deny" },
      { "boss", "HandoffOffer", false }, { "boss", "HandoffContext", false }, { "bob", "HandoffAccept", "allow" } },
      said(state))
    local tally = {}
    for i, entry in ipairs(state.policy.voteTally) do tally[i] = { entry.commitmentId, entry.allow, entry.deny } end
    assert.same({ { "h1", 0, 1 }, { "h2", 1, 0 } }, tally)
    assert.same({ "reached", true }, { state.policy.quorumStatus, state.policy.outcomePositive })
    assert.same({ "accepted", "bob", "h2" }, { state.mode.view.status, state.mode.view.owner,
      state.mode.view.accepted })
  end)

  it("of a handoff that was declined says so", function()
    local state = play("handoff", { "boss", "ann" }, {
      { "boss", "HandoffOffer", { handoff_id = "h1", target_participant = "ann" } },
      { "ann", "HandoffDecline", { handoff_id = "h1", reason = "busy" } },
    }, "handoff.declined", false)
    assert.same({ "failed", false }, { state.policy.quorumStatus, state.policy.outcomePositive })
    assert.same({ "declined", "boss" }, { state.mode.view.status, state.mode.view.owner })
  end)
end)
