-- Acceptance: what is refused, in the ack.

local acceptance = require("spec.support.acceptance")
local client = require("spec.support.runtime_client")
local crypto = require("host.crypto")

local ANN, BOB, EVE = "agent://ann", "agent://bob", "agent://eve"

describe("acceptance: an ack refuses", function()
  local at

  setup(function() at = acceptance.start() end)
  teardown(function() at:stop() end)

  local function refused(ack, code)
    assert.is_false(ack.ok)
    assert.equal(code, ack.error.code)
    assert.equal(0, ack.session_state)
  end

  local many = {}
  for i = 1, 1001 do many[i] = "agent://" .. i end

  local STARTS = {
    { "envelope version 2.0", "UNSUPPORTED_PROTOCOL_VERSION", { changes = { macp_version = "2.0" } } },
    { "an empty mode", "INVALID_ENVELOPE", { changes = { mode = "" } } },
    { "an unknown mode", "MODE_NOT_SUPPORTED", { changes = { mode = "macp.mode.none.v1" } } },
    { "no participants, in a proposal", "INVALID_ENVELOPE", { mode = "proposal", participants = {} } },
    { "no participants, in a task", "INVALID_ENVELOPE", { mode = "task", participants = {} } },
    { "no participants, in a handoff", "INVALID_ENVELOPE", { mode = "handoff", participants = {} } },
    { "no participants, in a quorum", "INVALID_ENVELOPE", { mode = "quorum", participants = {} } },
    { "a ttl of 0", "INVALID_ENVELOPE", { fields = { ttl_ms = 0 } } },
    { "more than 1000 participants", "INVALID_ENVELOPE", { participants = many } },
    { "a UUID in upper case", "INVALID_SESSION_ID", { id = crypto.uuid4():upper() } },
    { "a UUID of another version", "INVALID_SESSION_ID", { id = (crypto.uuid4():gsub("^(.-%-.-%-)4", "%11")) } },
  }
  for _, case in ipairs(STARTS) do
    it("a start with " .. case[1], function()
      local opts = case[3]
      opts.mode = opts.mode or "decision"
      refused(at:new_session(opts):start(), case[2])
    end)
  end

  -- Runtimes of before 0.7.6 refuse it, and their suite says so; RFC-MACP-0007 §2 and the fixtures accept it since.
  it("nothing about a decision without participants, which nobody can do anything in", function()
    local session = at:session({ mode = "decision", participants = {} })
    for _, who in ipairs({ ANN, BOB, session.by }) do
      refused(session:send(who, "Proposal", { proposal_id = "p", option = "o" }), "FORBIDDEN")
    end
    refused(session:commit("go"), "INVALID_ENVELOPE")
    refused(session:commit("decision.rejected", { outcome_positive = false }), "INVALID_ENVELOPE")
    refused(session:commit("go", nil, ANN), "FORBIDDEN")
  end)

  it("nothing about a 36 character base64url id with a hyphen", function()
    local id = crypto.base64url_encode(crypto.random(27)):sub(1, 34):gsub("%-", "x") .. "-z"
    assert.equal(36, #id)
    assert.is_true(at:new_session({ mode = "decision", id = id }):start().ok)
  end)

  it("a start that reuses a session id with a new message id", function()
    local session = at:session({ mode = "decision" })
    refused(session:start(), "SESSION_ALREADY_EXISTS")
  end)

  it("a sender outside the session, and an unknown session", function()
    refused(at:session({ mode = "decision" }):send(EVE, "Proposal", { proposal_id = "p", option = "o" }), "FORBIDDEN")
    refused(at:new_session({ mode = "decision" }):send(ANN, "Proposal", { proposal_id = "p", option = "o" }),
      "SESSION_NOT_FOUND")
  end)

  local function decided()
    local session = at:session({ mode = "decision" })
    session:tell(ANN, "Proposal", { proposal_id = "p1", option = "o" })
    session:tell(BOB, "Vote", { proposal_id = "p1", vote = "APPROVE" })
    return session
  end

  it("a commitment with a foreign mode version or configuration version, or of somebody else", function()
    local session = decided()
    refused(session:commit("go", { mode_version = "9.9.9" }), "INVALID_ENVELOPE")
    refused(session:commit("go", { configuration_version = "config.other" }), "INVALID_ENVELOPE")
    refused(session:commit("go", nil, ANN), "FORBIDDEN")
    assert.is_true(session:commit("go").ok)
  end)

  it("a proposal commitment without acceptance", function()
    local session = at:session({ mode = "proposal", by = ANN })
    session:tell(ANN, "Proposal", { proposal_id = "p1", title = "t" })
    refused(session:commit("buy"), "INVALID_ENVELOPE")
  end)

  it("a task request of somebody else, and a second one", function()
    local session = at:session({ mode = "task", by = ANN })
    local request = { task_id = "t1", title = "t", instructions = "i", requested_assignee = BOB }
    refused(session:send(BOB, "TaskRequest", request), "FORBIDDEN")
    session:tell(ANN, "TaskRequest", request)
    request.task_id = "t2"
    refused(session:send(ANN, "TaskRequest", request), "INVALID_ENVELOPE")
  end)

  it("a handoff accept without an offer", function()
    local session = at:session({ mode = "handoff", by = ANN })
    refused(session:send(BOB, "HandoffAccept", { handoff_id = "h1", accepted_by = BOB }), "INVALID_ENVELOPE")
  end)

  it("an approval before its request, and a quorum commitment below the bar", function()
    local session = at:session({ mode = "quorum", by = ANN })
    refused(session:send(BOB, "Approve", { request_id = "r1" }), "INVALID_ENVELOPE")
    session:tell(ANN, "ApprovalRequest", { request_id = "r1", action = "a", summary = "s", required_approvals = 2 })
    session:tell(BOB, "Approve", { request_id = "r1" })
    refused(session:commit("go"), "INVALID_ENVELOPE")
  end)

  it("a multi-round commitment before convergence", function()
    local session = at:session({ mode = "multi_round" })
    session:tell(ANN, "Contribute", { value = "a" })
    session:tell(BOB, "Contribute", { value = "b" })
    refused(session:commit("go"), "INVALID_ENVELOPE")
  end)

  it("a confidence of 2.0 and an urgent objection", function()
    local session = at:session({ mode = "decision" })
    session:tell(ANN, "Proposal", { proposal_id = "p1", option = "o" })
    refused(session:send(BOB, "Evaluation", { proposal_id = "p1", recommendation = "APPROVE", confidence = 2.0 }),
      "INVALID_ENVELOPE")
    refused(session:send(BOB, "Objection", { proposal_id = "p1", reason = "r", severity = "urgent" }),
      "INVALID_ENVELOPE")
  end)

  local SIGNALS = {
    { "with a session id", { session_id = crypto.uuid4() } },
    { "with a mode", { mode = "macp.mode.decision.v1" } },
    { "with an empty type", { payload = client.payload("macp.v1.SignalPayload", { data = "x" }) } },
  }
  for _, case in ipairs(SIGNALS) do
    it("a signal " .. case[1], function()
      local envelope = client.envelope({ mode = "", message_type = "Signal", message_id = crypto.uuid4(),
        payload = client.payload("macp.v1.SignalPayload", { signal_type = "ping" }) })
      for name, value in pairs(case[2]) do envelope[name] = value end
      refused(at.rig:send(ANN, envelope), "INVALID_ENVELOPE")
    end)
  end
end)
