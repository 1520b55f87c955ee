local run_trace = require("macp.plane.run_trace")

local MS = 1790000000000

-- What the run's span is told of one event.
local function noted(event_type, data, subject_id)
  local told
  local span = { event = function(_, name, attributes, ms) told = { name, attributes, ms } end }
  run_trace.note(span, 7, MS, event_type, subject_id, data)
  return told
end

describe("the span of a run", function()
  it("marks signals, acknowledgements, denials and decisions, each with its number", function()
    assert.same({ "signal.emitted", { seq = 7, name = "risk", sender = "ann" }, MS },
      noted("signal.emitted", { sender = "ann", decodedPayload = { signalType = "risk" } }))
    assert.same({ "signal.acknowledged", { seq = 7, signalId = "s9", sender = "bob" }, MS },
      noted("signal.acknowledged", { sender = "bob", decodedPayload = { signalId = "s9" } }))
    assert.same({ "signal.acknowledged", { seq = 7, signalId = "m1", sender = "bob" }, MS },
      noted("signal.acknowledged", { sender = "bob" }, "m1"))
    assert.same({ "policy.denied", { seq = 7, errorCode = "POLICY_DENIED" }, MS }, noted("policy.denied", {}))
    assert.same({ "policy.denied", { seq = 7, errorCode = "FORBIDDEN" }, MS },
      noted("policy.denied", { errorCode = "FORBIDDEN" }))
    assert.same({ "decision.finalized", { seq = 7, action = "ship", outcome = "positive" }, MS },
      noted("decision.finalized", { decodedPayload = { action = "ship", outcomePositive = true } }))
    assert.same({ "decision.finalized", { seq = 7, action = "ship" }, MS },
      noted("decision.finalized", { action = "ship" }))
  end)

  it("marks nothing else", function()
    for _, name in ipairs({ "message.received", "proposal.created", "run.started" }) do
      assert.is_nil(noted(name, { sender = "ann" }))
    end
  end)
end)
