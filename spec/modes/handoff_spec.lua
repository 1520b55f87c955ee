-- What people see of a handoff, what the clock writes, and that its cost does not grow.

local json = require("host.json")

local modes = require("spec.support.modes")

describe("the handoff mode", function()
  local rev

  setup(function() rev = modes.shipped("handoff") end)
  teardown(function() rev:close() end)

  local function start(timeout)
    assert(rev:start("s", modes.start({ participants = { "ann", "bob", "cy" }, policy = { policy_id = "p", mode = "*",
      schema_version = 3, rules = { acceptance = { implicit_accept_timeout_ms = timeout } } } })))
  end

  before_each(function() start() end)
  after_each(function() rev:drop("s") end)

  local function send(...) modes.send(rev, "s", ...) end

  local function play()
    send("ann", "HandoffOffer", { handoff_id = "h1", target_participant = "bob", scope = "billing", reason = "leave" })
    send("ann", "HandoffContext", { handoff_id = "h1", content_type = "text/plain", context = "\0\255" })
    send("bob", "HandoffDecline", { handoff_id = "h1", reason = "busy" })
    send("ann", "HandoffOffer", { handoff_id = "h2", target_participant = "cy" })
  end

  local function view() return json.decode((rev:render("s"))).view end

  it("shows the offers, their answers, the context by size and who owns the work", function()
    assert.equal("no offer yet", rev:summary("s"))
    play()
    assert.same({
      status = "offered", owner = "ann", pending = "h2", declined = 1, policy = { id = "policy.default" },
      offers = {
        { id = "h1", target = "bob", scope = "billing", reason = "leave", by = "ann", disposition = "Declined",
          answered_by = "bob", answer = "busy", contexts = { { content_type = "text/plain", bytes = 2 } },
          context_count = 1 },
        { id = "h2", target = "cy", scope = "", reason = "", by = "ann", disposition = "Offered", contexts = {},
          context_count = 0 },
      },
    }, view())
    assert.equal("offered: cy", rev:summary("s"))
    send("cy", "HandoffAccept", { handoff_id = "h2" })
    assert.same({ "accepted", "cy", "h2" }, { view().status, view().owner, view().accepted })
    assert.equal("accepted: cy", rev:summary("s"))
  end)

  it("has empty lists as lists", function()
    assert.truthy((rev:render("s")):find('"offers":[]', 1, true))
    send("ann", "HandoffOffer", { handoff_id = "h1", target_participant = "bob" })
    assert.truthy((rev:render("s")):find('"contexts":[]', 1, true))
    send("bob", "HandoffDecline", { handoff_id = "h1" })
    assert.equal("declined: 1 times", rev:summary("s"))
  end)

  it("maps messages to events with votes", function()
    assert(rev:start("o", modes.start({ participants = { "ann", "bob", "cy" } })))
    local function observe(by, name, payload, flags)
      local _, events = rev:observe("o", name, by, modes.encode(rev, name, payload), 1, "m", "", flags)
      assert.equal("proposal", events[1].kind)
      return { events[1].type, events[1].id, events[1].label, events[1].vote }
    end
    assert.same({ "proposal.created", "h1", "HandoffOffer" },
      observe("ann", "HandoffOffer", { handoff_id = "h1", target_participant = "bob" }))
    assert.same({ "proposal.updated", "h1", "HandoffContext" }, observe("ann", "HandoffContext", { handoff_id = "h1" }))
    assert.same({ "proposal.updated", "h1", "HandoffDecline", "deny" },
      observe("bob", "HandoffDecline", { handoff_id = "h1" }))
    observe("ann", "HandoffOffer", { handoff_id = "h2", target_participant = "cy" })
    assert.same({ "proposal.updated", "h2", "HandoffAccept", "allow" },
      observe("cy", "HandoffAccept", { handoff_id = "h2", implicit = true }, 1))
    rev:drop("o")
    assert(rev:start("o", modes.start({ participants = { "ann", "bob" } })))
    observe("ann", "HandoffOffer", { handoff_id = "h1", target_participant = "bob" })
    assert.same({ "proposal.updated", "h1", "HandoffAccept", "allow" },
      observe("bob", "HandoffAccept", { handoff_id = "h1" }))
    rev:drop("o")
  end)

  it("answers its routes and shapes deliveries", function()
    play()
    local status, body = rev:route("s", 1, { params = { id = "h1" } })
    assert.equal(200, status)
    assert.same({ offer = "h1", context = { { content_type = "text/plain", by = "ann", context = "AP8=" } } },
      json.decode(body))
    status, body = rev:route("s", 1, { params = { id = "h2" } })
    assert.equal(200, status)
    assert.truthy(body:find('"context":[]', 1, true), body)
    local none, err = rev:route("s", 1, { params = { id = "h9" } })
    assert.is_nil(none)
    assert.equal("NOT_FOUND", err.code)
  end)

  it("accepts for a target that stays silent, under an id that no client may use", function()
    start(5000)
    send("ann", "HandoffOffer", { handoff_id = "h1", target_participant = "bob" }, 1000)
    assert.equal(6000, (rev:next_due("s")))
    assert.is_nil((rev:fire("s", 5999)))
    local message = assert(rev:fire("s", 9000))
    assert.same({ "HandoffAccept", "bob", "implicit-accept:h1", 6000 },
      { message.type, message.sender, message.message_id, message.at })
    local _, payload = rev.iso:call("decode_payload", nil, "HandoffAccept", message.payload)
    assert.same({ handoff_id = "h1", accepted_by = "bob", reason = "implicit accept (timeout)", implicit = true },
      payload)
    assert.is_true(rev:is_reserved_id(message.message_id))
    assert.is_true(rev:is_reserved_id("implicit-accept:"))
    assert.is_false(rev:is_reserved_id("Implicit-accept:h1"))
    assert.equal("accepted", (rev:submit("s", message.type, message.sender, message.payload, message.at, 1)))
    assert.is_nil((rev:next_due("s")))
    assert.is_true(view().offers[1].implicit)
  end)

  it("refuses policies that mean nothing", function()
    for _, value in ipairs({ -1, 86400001, 0.5, "5000" }) do
      local ok, texts = rev:check_policy({ acceptance = { implicit_accept_timeout_ms = value } }, 3)
      assert.is_nil(ok)
      assert.truthy(texts[1]:find("acceptance.implicit_accept_timeout_ms: expected", 1, true), texts[1])
    end
    assert.is_nil((rev:check_policy({ acceptance = { criterion = "initiator" } }, 3)))
    assert.is_true((rev:check_policy({ acceptance = { implicit_accept_timeout_ms = 86400000 } }, 1)))
  end)

  it("costs the same per message and per view in a long session", function()
    local context = modes.encode(rev, "HandoffContext", { handoff_id = "o0", content_type = "text/plain" })
    local function used(call)
      call()
      return rev.iso:last_instructions()
    end
    local function offer(i)
      send("ann", "HandoffOffer", { handoff_id = "o" .. i, target_participant = "bob" })
      local decline = modes.encode(rev, "HandoffDecline", { handoff_id = "o" .. i })
      return used(function() assert(rev:submit("s", "HandoffDecline", "bob", decline, 1)) end)
    end
    local function measure(i)
      return { offer(i), used(function() assert(rev:submit("s", "HandoffContext", "ann", context, 1)) end),
        used(function() rev:submit("s", "Commitment", "ann", modes.commitment(rev, { action = "handoff.declined",
          outcome_positive = false }), 1, 2) end) }
    end
    rev.iso:set_step(10)
    for i = 0, 50 do offer(i) end
    for _ = 1, 50 do rev:submit("s", "HandoffContext", "ann", context, 1) end
    local before = measure(51)
    for i = 52, 2000 do offer(i) end
    for _ = 1, 3000 do rev:submit("s", "HandoffContext", "ann", context, 1) end
    local later = measure(2001)
    rev.iso:set_step(1000)
    for i, count in ipairs(before) do assert.is_true(later[i] <= count * 1.2, i .. ": " .. count .. " " .. later[i]) end
    assert.equal(500, #view().offers)
    assert.equal(20, #view().offers[1].contexts)
  end)
end)
