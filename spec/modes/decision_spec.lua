-- What people see of a decision, and that its cost does not grow with the number of messages.

local json = require("host.json")

local modes = require("spec.support.modes")

describe("the decision mode", function()
  local rev

  setup(function() rev = modes.shipped("decision") end)
  teardown(function() rev:close() end)

  before_each(function() assert(rev:start("s", modes.start({ participants = { "ann", "bob", "cy" } }))) end)
  after_each(function() rev:drop("s") end)

  local function send(...) modes.send(rev, "s", ...) end

  local function play()
    send("ann", "Proposal", { proposal_id = "p1", option = "ship", rationale = "green" })
    send("bob", "Proposal", { proposal_id = "p2", option = "wait" })
    send("cy", "Evaluation", { proposal_id = "p1", recommendation = "approve", confidence = 0.9, reason = "fast" })
    send("bob", "Objection", { proposal_id = "p1", severity = "critical", reason = "risk" })
    send("ann", "Vote", { proposal_id = "p1", vote = "approve" })
    send("bob", "Vote", { proposal_id = "p1", vote = "reject" })
    send("bob", "Vote", { proposal_id = "p2", vote = "approve" })
  end

  it("shows proposals with their own counts, the pooled tally and what was said", function()
    play()
    local view = json.decode((rev:render("s"))).view
    assert.equal("Voting", view.phase)
    assert.equal(2, view.proposal_count)
    assert.same({ id = "p1", option = "ship", rationale = "green", by = "ann", evaluations = 1, objections = 1,
      tally = { approve = 1, reject = 1, abstain = 0 }, votes = { ann = "APPROVE", bob = "REJECT" } },
        view.proposals[1])
    assert.same({ approve = 2, reject = 1, abstain = 0, voters = 2, participants = 3 }, view.tally)
    assert.equal("fast", view.evaluations[1].reason)
    assert.equal(1, view.critical_objections)
    assert.equal("Voting: 2 proposals, 2 approve, 1 reject", rev:summary("s"))
  end)

  it("has empty lists as lists", function()
    local text = rev:render("s")
    for _, name in ipairs({ "proposals", "evaluations", "objections" }) do
      assert.truthy(text:find('"' .. name .. '":[]', 1, true), name)
    end
  end)

  it("maps messages to events with votes and confidence", function()
    assert(rev:start("o", modes.start({ participants = { "ann", "bob", "cy" } })))
    local function observe(by, name, payload)
      local _, events = rev:observe("o", name, by, modes.encode(rev, name, payload), 1, "m")
      return events[1]
    end
    assert.same({ type = "proposal.created", kind = "proposal", id = "p1", label = "ship" },
      observe("ann", "Proposal", { proposal_id = "p1", option = "ship" }))
    assert.same({ type = "proposal.updated", kind = "proposal", id = "p1", label = "BLOCK", vote = "deny",
      confidence = 0.25 }, observe("bob", "Evaluation", { proposal_id = "p1", recommendation = "block",
        confidence = 0.25 }))
    assert.same({ type = "proposal.updated", kind = "proposal", id = "p1", label = "Objection" },
      observe("bob", "Objection", { proposal_id = "p1" }))
    assert.same({ type = "proposal.updated", kind = "proposal", id = "p1", label = "APPROVE", vote = "allow",
      confidence = 1 }, observe("cy", "Vote", { proposal_id = "p1", vote = "APPROVE" }))
    assert.is_nil(observe("ann", "Vote", { proposal_id = "p1", vote = "ABSTAIN" }).vote)
    rev:drop("o")
  end)

  it("answers its routes and shapes deliveries", function()
    play()
    local status, body = rev:route("s", 1, {})
    assert.equal(200, status)
    assert.same({ approve = 1, reject = 0, abstain = 0 }, json.decode(body).proposals[2].tally)
    status, body = rev:route("s", 2, { params = { id = "p1" } })
    assert.equal(200, status)
    assert.equal("risk", json.decode(body).objections[1].reason)
    local none, err = rev:route("s", 2, { params = { id = "p9" } })
    assert.is_nil(none)
    assert.equal("NOT_FOUND", err.code)
  end)

  it("costs the same per message, per view and per commitment in a long session", function()
    local evaluation = modes.encode(rev, "Evaluation", { proposal_id = "p1", recommendation = "REVIEW",
      confidence = 0.5 })
    local function used(call)
      call()
      return rev.iso:last_instructions()
    end
    local function measure()
      return used(function() rev:submit("s", "Evaluation", "ann", evaluation, 1) end),
        used(function() rev:render("s") end),
        used(function() rev:submit("s", "Commitment", "ann", modes.commitment(rev, { action = "decision.declined" }),
          1, 2) end)
    end
    rev.iso:set_step(10)
    send("ann", "Proposal", { proposal_id = "p1", option = "x" })
    for _ = 1, 100 do rev:submit("s", "Evaluation", "ann", evaluation, 1) end
    local message, view, commitment = measure()
    for _ = 1, 5000 do rev:submit("s", "Evaluation", "ann", evaluation, 1) end
    local message_later, view_later, commitment_later = measure()
    rev.iso:set_step(1000)
    assert.is_true(message_later <= message * 1.2, message .. " " .. message_later)
    assert.is_true(view_later <= view * 1.2, view .. " " .. view_later)
    assert.is_true(commitment_later <= commitment * 1.2, commitment .. " " .. commitment_later)
  end)
end)
