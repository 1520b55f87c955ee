-- What people see of a request for approval, how policies move its bar, and that its cost does not grow.

local json = require("host.json")

local modes = require("spec.support.modes")

describe("the quorum mode", function()
  local rev

  setup(function() rev = modes.shipped("quorum") end)
  teardown(function() rev:close() end)

  local function start(rules, version)
    assert(rev:start("s", modes.start({ initiator = "lead", participants = { "ann", "bob", "cy" },
      policy = { policy_id = "p", mode = "*", schema_version = version or 3, rules = rules or {} } })))
  end

  before_each(function() start() end)
  after_each(function() rev:drop("s") end)

  local function send(by, name, payload)
    local verdict, refused = rev:submit("s", name, by, modes.encode(rev, name, payload), 1)
    return verdict, refused
  end

  local function ask(required)
    return send("lead", "ApprovalRequest", { request_id = "r1", action = "release", summary = "4.2",
      details = "\0\1", required_approvals = required or 2 })
  end

  local function view() return json.decode((rev:render("s"))).view end

  it("shows the request, its bar, the ballots and who is silent", function()
    assert.same({ status = "waiting", ballots = {}, silent = { "ann", "bob", "cy" }, policy = { id = "policy.default" },
      tally = { approve = 0, reject = 0, abstain = 0, participants = 3 } }, view())
    assert.equal("no request yet", rev:summary("s"))
    ask()
    send("ann", "Approve", { request_id = "r1", reason = "tested" })
    send("cy", "Abstain", { request_id = "r1" })
    assert.same({ status = "open", ballots = { ann = "Approve", cy = "Abstain" }, silent = { "bob" },
      request = { id = "r1", action = "release", summary = "4.2", by = "lead", required_approvals = 2, bar = 2,
        details_bytes = 2 },
      tally = { approve = 1, reject = 0, abstain = 1, participants = 3 }, policy = { id = "policy.default" } }, view())
    assert.equal("open: 1 of 2 approvals, 0 reject, 1 abstain", rev:summary("s"))
  end)

  it("has empty lists as lists", function()
    ask()
    for _, who in ipairs({ "ann", "bob", "cy" }) do send(who, "Approve", { request_id = "r1" }) end
    assert.truthy((rev:render("s")):find('"silent":[]', 1, true))
  end)

  it("maps messages to events with votes", function()
    assert(rev:start("o", modes.start({ initiator = "lead", participants = { "ann", "bob", "cy" } })))
    local function observe(by, name, payload)
      local _, events = rev:observe("o", name, by, modes.encode(rev, name, payload), 1, "m")
      return events[1]
    end
    assert.same({ type = "proposal.created", kind = "proposal", id = "r1", label = "release" },
      observe("lead", "ApprovalRequest", { request_id = "r1", action = "release", required_approvals = 1 }))
    assert.same({ type = "proposal.updated", kind = "proposal", id = "r1", label = "Approve", vote = "allow" },
      observe("ann", "Approve", { request_id = "r1", reason = "x" }))
    assert.same({ type = "proposal.updated", kind = "proposal", id = "r1", label = "Reject", vote = "deny" },
      observe("bob", "Reject", { request_id = "r1" }))
    assert.same({ type = "proposal.updated", kind = "proposal", id = "r1", label = "Abstain" },
      observe("cy", "Abstain", { request_id = "r1" }))
    rev:drop("o")
  end)

  it("answers its routes and shapes deliveries", function()
    ask()
    send("ann", "Reject", { request_id = "r1" })
    local status, body = rev:route("s", 1, {})
    assert.equal(200, status)
    assert.same({ request = "r1", status = "open", ballots = { ann = "Reject" }, silent = { "bob", "cy" } },
      json.decode(body))
  end)

  it("takes fractions that stored policies hold: counts and shares are rounded up", function()
    for value, bar in pairs({ [0.5] = 1, [1.5] = 2, [2] = 2 }) do
      start({ threshold = { type = "n_of_m", value = value } }, 1)
      assert.equal("accepted", (ask(1)))
      assert.equal(bar, view().request.bar)
    end
  end)

  it("seals nothing under a threshold type it does not know", function()
    start({ threshold = { type = "weighted", value = 1 } }, 1)
    local verdict, refused = ask(1)
    assert.is_nil(verdict)
    assert.same({ "INVALID_ENVELOPE", "the policy's bar can be reached by the participants" },
      { refused.code, refused.message })
  end)

  it("refuses policies that mean nothing", function()
    for _, case in ipairs({
      { { threshold = { type = "weighted", value = 1 } }, 'threshold.type: expected one of n_of_m, percentage' },
      { { threshold = { type = "percentage", value = 101 } }, "threshold.value: expected a number of at most 100" },
      { { threshold = { type = "percentage", value = 0.75 } }, "threshold.value: expected a whole number" },
      { { threshold = { value = 1.5 } }, "threshold.value: expected a whole number" },
      { { threshold = { value = -1 } }, "threshold.value: expected a whole number of at least 1" },
      { { abstention = { interpretation = "yes" } }, "abstention.interpretation: expected one of neutral" },
      { { abstention = { counts_toward_quorum = 1 } }, "abstention.counts_toward_quorum: expected true or false" },
      { { voting = {} }, "voting: unknown" },
      { { commitment = { require_vote_quorum = true } }, "commitment.require_vote_quorum" },
    }) do
      local ok, texts = rev:check_policy(case[1], 3)
      assert.is_nil(ok)
      assert.truthy(table.concat(texts, "\n"):find(case[2], 1, true), table.concat(texts, "\n"))
    end
    local ok, texts = rev:check_policy({ threshold = { type = "count", value = 0 },
      abstention = { counts_toward_quorum = true } }, 1)
    assert.is_true(ok)
    for _, part in ipairs({ "has no effect: there is no quorum of participation", "is an old name of",
      "is read as if the rule were absent" }) do
      assert.truthy(table.concat(texts, "\n"):find(part, 1, true), part)
    end
  end)

  it("tells abstentions as rejections when the policy wants them told so", function()
    start({ abstention = { interpretation = "implicit_reject" } })
    ask(1)
    send("ann", "Approve", { request_id = "r1" })
    send("bob", "Abstain", { request_id = "r1" })
    local _, _, _, _, details = rev:submit("s", "Commitment", "lead",
      modes.commitment(rev, { action = "quorum.approved" }), 1)
    assert.same({ "abstention.interpretation: 1 rejections, abstentions included" }, json.decode(details).reasons)
  end)

  it("is still held to the policy's bar where outcomes are read leniently", function()
    local lenient = modes.shipped("quorum", { lenient_outcomes = true })
    lenient.quiet = true
    local function commit(rules)
      assert(lenient:start("s", modes.start({ initiator = "lead", participants = { "ann", "bob" },
        policy = { policy_id = "p", mode = "*", schema_version = 1, rules = rules } })))
      local function give(by, name, payload)
        assert(lenient:submit("s", name, by, modes.encode(lenient, name, payload), 1))
      end
      give("lead", "ApprovalRequest", { request_id = "r1", required_approvals = 2 })
      give("ann", "Approve", { request_id = "r1" })
      give("bob", "Reject", { request_id = "r1" })
      return lenient:submit("s", "Commitment", "lead", modes.commitment(lenient, { action = "quorum.approved" }), 1)
    end
    local verdict, refused = commit({ threshold = { value = 2 } })
    assert.is_nil(verdict)
    assert.same({ "POLICY_DENIED", "threshold.value: 1 approvals, 2 needed (n_of_m 2)", "threshold.value" },
      { refused.code, refused.message, refused.rule })
    assert.equal("resolved", (commit({})))
    lenient:close()
  end)

  it("costs the same per ballot and per commitment with many participants", function()
    local function measure(count)
      local names = {}
      for i = 1, count do names[i] = "p" .. i end
      assert(rev:start("s", modes.start({ initiator = "lead", participants = names })))
      ask(count - 1)
      local approve = modes.encode(rev, "Approve", { request_id = "r1" })
      for i = 1, count - 1 do assert(rev:submit("s", "Approve", names[i], approve, 1)) end
      local ballot = rev.iso:last_instructions()
      assert.equal("resolved", (rev:submit("s", "Commitment", "lead",
        modes.commitment(rev, { action = "quorum.approved" }), 1)))
      return ballot, rev.iso:last_instructions()
    end
    rev.iso:set_step(10)
    local ballot, commitment = measure(10)
    local ballot_later, commitment_later = measure(1000)
    rev.iso:set_step(1000)
    assert.is_true(ballot_later <= ballot * 1.2, ballot .. " " .. ballot_later)
    assert.is_true(commitment_later <= commitment * 1.2, commitment .. " " .. commitment_later)
  end)
end)
