-- What people see of a negotiation, what only a session from elsewhere can bring about, and that its cost does not grow.

local json = require("host.json")

local modes = require("spec.support.modes")

describe("the proposal mode", function()
  local rev

  setup(function() rev = modes.shipped("proposal") end)
  teardown(function() rev:close() end)

  before_each(function() assert(rev:start("s", modes.start({ participants = { "ann", "bob", "cy" } }))) end)
  after_each(function() rev:drop("s") end)

  local function send(...) modes.send(rev, "s", ...) end

  local function play()
    send("ann", "Proposal", { proposal_id = "p1", title = "ten", summary = "at ten", details = "\0\255",
      tags = { "price" } })
    send("bob", "CounterProposal", { proposal_id = "p2", supersedes_proposal_id = "p1", title = "eight" })
    send("cy", "Reject", { proposal_id = "p1", reason = "too much" })
    send("ann", "Accept", { proposal_id = "p2" })
    send("bob", "Accept", { proposal_id = "p2" })
  end

  local function view() return json.decode((rev:render("s"))).view end

  it("shows proposals with their answers, who accepts what and what was converged on", function()
    play()
    local shown = view()
    assert.same({ id = "p1", title = "ten", summary = "at ten", tags = { "price" }, by = "ann", disposition = "Live",
      details_bytes = 2, accepts = 0, rejects = 1, terminal_rejects = 0 }, shown.proposals[1])
    assert.same({ "p2", "p1", "bob", 2 }, { shown.proposals[2].id, shown.proposals[2].supersedes,
      shown.proposals[2].by, shown.proposals[2].accepts })
    assert.same({ ann = "p2", bob = "p2" }, shown.accepts)
    assert.same({ "cy" }, shown.silent)
    assert.same({ { proposal_id = "p1", sender = "cy", reason = "too much", terminal = false } }, shown.rejections)
    assert.same({ made = 1 }, shown.counter_proposals)
    assert.is_nil(shown.converged_on)
    assert.equal("Negotiating: 2 proposals, 2 of 3 accept, 1 rejections", rev:summary("s"))
    send("cy", "Accept", { proposal_id = "p2" })
    assert.equal("p2", view().converged_on)
    assert.equal("Converged: 2 proposals, 3 of 3 accept, 1 rejections, on p2", rev:summary("s"))
  end)

  it("has empty lists as lists", function()
    local text = rev:render("s")
    for _, name in ipairs({ "proposals", "rejections", "terminal_rejections" }) do
      assert.truthy(text:find('"' .. name .. '":[]', 1, true), name)
    end
    send("ann", "Proposal", { proposal_id = "p1" })
    assert.truthy((rev:render("s")):find('"tags":[]', 1, true))
  end)

  it("maps messages to events with votes", function()
    assert(rev:start("o", modes.start({ participants = { "ann", "bob" } })))
    local function observe(by, name, payload)
      local _, events = rev:observe("o", name, by, modes.encode(rev, name, payload), 1, "m")
      assert.equal("proposal", events[1].kind)
      return { events[1].type, events[1].id, events[1].label, events[1].vote }
    end
    assert.same({ "proposal.created", "p1", "Proposal" },
      observe("ann", "Proposal", { proposal_id = "p1", title = "ten" }))
    assert.same({ "proposal.created", "p2", "CounterProposal" },
      observe("bob", "CounterProposal", { proposal_id = "p2", supersedes_proposal_id = "p1" }))
    assert.same({ "proposal.updated", "p1", "Accept", "allow" }, observe("bob", "Accept", { proposal_id = "p1" }))
    assert.same({ "proposal.updated", "p2", "Reject", "deny" }, observe("ann", "Reject", { proposal_id = "p2" }))
    assert.same({ "proposal.updated", "p2", "Withdraw" }, observe("bob", "Withdraw", { proposal_id = "p2" }))
    rev:drop("o")
  end)

  it("answers its routes and shapes deliveries", function()
    play()
    local status, body = rev:route("s", 1, { params = { id = "p1" } })
    assert.equal(200, status)
    local shown = json.decode(body)
    assert.same({ "AP8=", { "price" } }, { shown.proposal.details, shown.proposal.tags })
    assert.same({ {}, "too much" }, { shown.accepts, shown.rejections[1].reason })
    status, body = rev:route("s", 1, { params = { id = "p2" } })
    assert.same({ 200, { "ann", "bob" } }, { status, json.decode(body).accepts })
    local none, err = rev:route("s", 1, { params = { id = "p9" } })
    assert.is_nil(none)
    assert.equal("NOT_FOUND", err.code)
  end)

  -- A history that another runtime accepted is applied without being judged again.
  it("confirms the limit of counter-proposals at the commitment", function()
    local function history(final)
      assert(rev:start("h", modes.start({ participants = { "ann" }, policy = { policy_id = "p", mode = "*",
        schema_version = 1, rules = { counter_proposal = { max_rounds = 1 } } } })))
      for _, step in ipairs({ { "Proposal", { proposal_id = "p1" } },
        { "CounterProposal", { proposal_id = "p2", supersedes_proposal_id = "p1" } },
        { "CounterProposal", { proposal_id = "p3", supersedes_proposal_id = "p1" } }, final }) do
        assert(rev:apply("h", step[1], "ann", modes.encode(rev, step[1], step[2]), 1, 0))
      end
    end
    local function commit(action, positive)
      return rev:submit("h", "Commitment", "ann", modes.commitment(rev, { action = action,
        outcome_positive = positive }), 1)
    end
    history({ "Accept", { proposal_id = "p3" } })
    local verdict, refused = commit("proposal.accepted", true)
    assert.is_nil(verdict)
    assert.same({ "POLICY_DENIED", "counter_proposal.max_rounds: 2 counter-proposals, 1 allowed",
      "counter_proposal.max_rounds" }, { refused.code, refused.message, refused.rule })
    history({ "Reject", { proposal_id = "p3", terminal = true } })
    local resolved, _, _, _, details = commit("proposal.rejected", false)
    assert.equal("resolved", resolved)
    assert.truthy(details:find("does not block a rejection", 1, true), details)
    rev:drop("h")
  end)

  it("refuses policies that mean nothing", function()
    for _, case in ipairs({
      { { acceptance = { criterion = "majority" } }, "acceptance.criterion: expected one of all_parties" },
      { { counter_proposal = { max_rounds = -1 } }, "counter_proposal.max_rounds: expected a whole number" },
      { { counter_proposal = { max_rounds = 1.5 } }, "counter_proposal.max_rounds: expected a whole number" },
      { { rejection = { terminal_on_any_reject = "yes" } },
        "rejection.terminal_on_any_reject: expected true or false" },
      { { acceptance = { implicit_accept_timeout_ms = 1 } }, "acceptance.implicit_accept_timeout_ms: unknown" },
    }) do
      local ok, texts = rev:check_policy(case[1], 3)
      assert.is_nil(ok)
      assert.truthy(table.concat(texts, "\n"):find(case[2], 1, true), table.concat(texts, "\n"))
    end
  end)

  it("costs the same per message, per view and per commitment in a long session", function()
    play()
    local reject = modes.encode(rev, "Reject", { proposal_id = "p1", reason = "no" })
    local accepts = { modes.encode(rev, "Accept", { proposal_id = "p1" }),
      modes.encode(rev, "Accept", { proposal_id = "p2" }) }
    local function used(call)
      call()
      return rev.iso:last_instructions()
    end
    local function measure()
      return { used(function() rev:submit("s", "Reject", "cy", reject, 1) end),
        used(function() rev:submit("s", "Accept", "cy", accepts[1], 1) end),
        used(function() rev:submit("s", "Accept", "cy", accepts[2], 1) end),
        used(function() rev:render("s") end),
        used(function() rev:submit("s", "Commitment", "ann", modes.commitment(rev, { action = "proposal.accepted" }), 1,
          2) end) }
    end
    rev.iso:set_step(10)
    for _ = 1, 100 do rev:submit("s", "Reject", "cy", reject, 1) end
    local before = measure()
    for i = 1, 4000 do
      rev:submit("s", "Reject", "cy", reject, 1)
      rev:submit("s", "Accept", "cy", accepts[i % 2 + 1], 1)
    end
    local later = measure()
    rev.iso:set_step(1000)
    for i, count in ipairs(before) do assert.is_true(later[i] <= count * 1.2, i .. ": " .. count .. " " .. later[i]) end
  end)

  it("costs the same per acceptance with many participants and many proposals", function()
    local function measure(count)
      local names = {}
      for i = 1, count do names[i] = "p" .. i end
      assert(rev:start("s", modes.start({ participants = names })))
      for i = 1, count do send(names[i], "Proposal", { proposal_id = "id" .. i }) end
      for i = 1, count - 1 do send(names[i], "Accept", { proposal_id = "id1" }) end
      send(names[1], "Accept", { proposal_id = "id2" })
      return rev.iso:last_instructions()
    end
    rev.iso:set_step(10)
    local few = measure(10)
    local many = measure(1000)
    rev.iso:set_step(1000)
    assert.is_true(many <= few * 1.2, few .. " " .. many)
  end)
end)
