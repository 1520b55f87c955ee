-- Acceptance: one good session of every mode.

local acceptance = require("spec.support.acceptance")

local ANN, BOB, CAT, DAN = "agent://ann", "agent://bob", "agent://cat", "agent://dan"
local RESOLVED = 2

describe("acceptance: a good session", function()
  local at

  setup(function() at = acceptance.start() end)
  teardown(function() at:stop() end)

  -- Commits, and expects that this ends the session.
  local function resolve(session, action)
    local ack = session:commit(action)
    assert.is_true(ack.ok, ack.error and ack.error.code .. " " .. ack.error.message)
    assert.equal(RESOLVED, ack.session_state)
    assert.equal(RESOLVED, session:metadata().state)
  end

  it("of decision", function()
    local session = at:session({ mode = "decision" })
    session:tell(ANN, "Proposal", { proposal_id = "p1", option = "v2", rationale = "faster" })
    session:tell(BOB, "Evaluation", { proposal_id = "p1", recommendation = "approve", confidence = 0.9, reason = "ok" })
    session:tell(BOB, "Vote", { proposal_id = "p1", vote = "approve", reason = "ok" })
    resolve(session, "deploy-v2")
  end)

  it("of proposal", function()
    local session = at:session({ mode = "proposal", by = ANN })
    session:tell(BOB, "Proposal", { proposal_id = "p1", title = "100", summary = "for 100" })
    session:tell(ANN, "CounterProposal", { proposal_id = "p2", supersedes_proposal_id = "p1", title = "90" })
    session:tell(ANN, "Accept", { proposal_id = "p2" })
    session:tell(BOB, "Accept", { proposal_id = "p2" })
    resolve(session, "buy-for-90")
  end)

  it("of task", function()
    local session = at:session({ mode = "task", by = ANN })
    session:tell(ANN, "TaskRequest", { task_id = "t1", title = "count", instructions = "i", requested_assignee = BOB })
    session:tell(BOB, "TaskAccept", { task_id = "t1", assignee = BOB })
    session:tell(BOB, "TaskUpdate", { task_id = "t1", status = "running", progress = 0.5 })
    session:tell(BOB, "TaskComplete", { task_id = "t1", assignee = BOB, output = "42", summary = "done" })
    resolve(session, "counted")
  end)

  it("of handoff", function()
    local session = at:session({ mode = "handoff", by = ANN })
    session:tell(ANN, "HandoffOffer", { handoff_id = "h1", target_participant = BOB, scope = "support" })
    session:tell(ANN, "HandoffContext", { handoff_id = "h1", content_type = "text/plain", context = "so far" })
    session:tell(BOB, "HandoffAccept", { handoff_id = "h1", accepted_by = BOB })
    resolve(session, "handed-over")
  end)

  it("of quorum", function()
    local session = at:session({ mode = "quorum", by = ANN, participants = { ANN, BOB, CAT, DAN } })
    session:tell(ANN, "ApprovalRequest", { request_id = "r1", action = "ship", summary = "?", required_approvals = 2 })
    session:tell(BOB, "Approve", { request_id = "r1" })
    session:tell(CAT, "Approve", { request_id = "r1" })
    resolve(session, "deploy-approved")
  end)

  it("of multi-round", function()
    local session = at:session({ mode = "multi_round" })
    session:tell(ANN, "Contribute", { value = "a" })
    session:tell(BOB, "Contribute", { value = "b" })
    session:tell(BOB, "Contribute", { value = "a" })
    resolve(session, "agreed-on-a")
  end)
end)
