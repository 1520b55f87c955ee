-- Acceptance: a message counts once, and only if it was accepted.

local acceptance = require("spec.support.acceptance")
local crypto = require("host.crypto")
local task = require("host.task")

local ANN, BOB = "agent://ann", "agent://bob"

describe("acceptance: idempotency", function()
  local at

  setup(function() at = acceptance.start() end)
  teardown(function() at:stop() end)

  it("answers the same message id twice with ok, the second time as a duplicate", function()
    local session = at:session({ mode = "decision" })
    local id = crypto.uuid4()
    local first = session:tell(ANN, "Proposal", { proposal_id = "p1", option = "o" }, id)
    local second = session:tell(ANN, "Proposal", { proposal_id = "p1", option = "o" }, id)
    assert.same({ false, true }, { first.duplicate, second.duplicate })
    assert.same({ id, session.id, 1 }, { second.message_id, second.session_id, second.session_state })
  end)

  it("answers a repeated start as a duplicate, to its sender only", function()
    local session = at:new_session({ mode = "decision" })
    local envelope = session:start_envelope()
    assert.is_false(at.rig:send(session.by, envelope).duplicate)
    local again = at.rig:send(session.by, envelope)
    assert.same({ true, true, 1 }, { again.ok, again.duplicate, again.session_state })
    local foreign = at.rig:send("agent://eve", envelope)
    assert.same({ false, "SESSION_ALREADY_EXISTS" }, { foreign.ok, foreign.error and foreign.error.code })
  end)

  it("W29: tells nobody outside whether a message was accepted, nor the state", function()
    local session = at:session({ mode = "decision" })
    local id = crypto.uuid4()
    session:tell(ANN, "Proposal", { proposal_id = "p1", option = "o" }, id)
    local ack = session:send("agent://eve", "Proposal", { proposal_id = "p1", option = "o" }, id)
    assert.same({ false, false, 0, "FORBIDDEN" }, { ack.ok, ack.duplicate, ack.session_state, ack.error.code })
  end)

  it("leaves the id of a refused message free", function()
    local session = at:session({ mode = "decision" })
    local id = crypto.uuid4()
    local vote = { proposal_id = "p1", vote = "APPROVE" }
    assert.is_false(session:send(BOB, "Vote", vote, id).ok)
    session:tell(ANN, "Proposal", { proposal_id = "p1", option = "o" })
    assert.is_false(session:tell(BOB, "Vote", vote, id).duplicate)
  end)

  it("accepts one of many identical messages that come together", function()
    local session = at:session({ mode = "decision" })
    local id, accepted, repeated = crypto.uuid4(), 0, 0
    local group = {}
    for i = 1, 32 do
      group[i] = task.spawn(function()
        local ack = session:send(ANN, "Proposal", { proposal_id = "p1", option = "o" }, id)
        assert.is_true(ack.ok)
        if ack.duplicate then repeated = repeated + 1 else accepted = accepted + 1 end
      end)
    end
    for _, one in ipairs(group) do one:join() end
    assert.same({ 1, 31 }, { accepted, repeated })
  end)
end)
