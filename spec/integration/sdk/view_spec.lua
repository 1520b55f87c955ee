-- What an agent sees of a session is what the control plane shows of it.

local crypto = require("host.crypto")

local macp = require("macp.sdk")

local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")

describe("the local view", function()
  local rig, client

  setup(function()
    rig = plane_rig.start()
    client = macp.client({ target = rig.runtime.role.address, allow_insecure = true,
      auth = macp.auth.for_dev_agent("boss") })
  end)
  teardown(function()
    client:close()
    rig:destroy()
  end)

  local function as(name) return { auth = macp.auth.for_dev_agent(name) } end

  -- Announces a run of the mode and opens its session.
  local function open(mode, participants)
    local session = client:session(mode)
    local body = plane_rig.descriptor(session.session_id)
    body.session.modeName = mode
    local status, accepted = rig:post("/runs", body)
    assert.equal(202, status)
    session:start({ intent = "see the same", participants = participants or { "ann", "bob" }, ttl_ms = 60000 })
    return session, accepted.runId
  end

  -- Waits until the plane has seen as many envelopes, then compares.
  local function compare(session, run_id)
    local copy = client:session(session.mode, { session_id = session.session_id })
    local count, wanted = 0, #session:history()
    copy:follow(function()
      count = count + 1
      return count < wanted
    end, { timeout_ms = 5000 })
    local shown = eventually(function()
      local status, state = rig:get("/runs/" .. run_id .. "/state")
      local events = rig:events(run_id)
      local received = 0
      for _, event in ipairs(events) do
        if event.type == "message.received" then received = received + 1 end
      end
      return status == 200 and received >= wanted and state.mode and state.mode.view or nil, received
    end, 5000, "all envelopes at the plane")
    assert.same(shown, (session:view()))
    assert.same(shown, (copy:view()))
    copy:close()
    session:close()
  end

  it("of a decision is the plane's", function()
    local session, run_id = open("macp.mode.decision.v1")
    session:proposal({ proposal_id = "p1", option = "memory", rationale = "fast" }, as("ann"))
    session:proposal({ proposal_id = "p2", option = "redis" }, as("bob"))
    session:evaluation({ proposal_id = "p1", recommendation = "REVIEW", confidence = 0.25, reason = "hm" }, as("bob"))
    session:objection({ proposal_id = "p1", reason = "lost at restart", severity = "high" }, as("bob"))
    session:vote({ proposal_id = "p2", vote = "APPROVE" }, as("ann"))
    session:vote({ proposal_id = "p2", vote = "ABSTAIN", reason = "either" }, as("bob"))
    compare(session, run_id)
  end)

  it("of a negotiation is the plane's", function()
    local session, run_id = open("macp.mode.proposal.v1")
    session:proposal({ proposal_id = "p1", title = "ten", details = "\0\255", tags = { "price" } }, as("ann"))
    session:counter_proposal({ proposal_id = "p2", supersedes_proposal_id = "p1" }, as("bob"))
    session:accept({ proposal_id = "p2" }, as("ann"))
    session:reject({ proposal_id = "p1", terminal = true, reason = "no" }, as("bob"))
    session:withdraw({ proposal_id = "p1" }, as("ann"))
    compare(session, run_id)
  end)

  it("of a task is the plane's", function()
    local session, run_id = open("macp.mode.task.v1")
    session:task_request({ task_id = "t1", title = "index", input = "\0" })
    session:task_reject({ task_id = "t1", reason = "busy" }, as("bob"))
    session:task_accept({ task_id = "t1" }, as("ann"))
    session:task_update({ task_id = "t1", status = "running", progress = 0.25, partial_output = "\1" }, as("ann"))
    session:task_fail({ task_id = "t1", error_code = "E1", retryable = true }, as("ann"))
    compare(session, run_id)
  end)

  it("of a handoff is the plane's", function()
    local session, run_id = open("macp.mode.handoff.v1", { "boss", "ann", "bob" })
    session:handoff_offer({ handoff_id = "h1", target_participant = "ann" })
    session:handoff_context({ handoff_id = "h1", content_type = "text/plain", context = "\0\255" })
    session:handoff_decline({ handoff_id = "h1", reason = "busy" }, as("ann"))
    session:handoff_offer({ handoff_id = "h2", target_participant = "bob" })
    session:handoff_accept({ handoff_id = "h2" }, as("bob"))
    compare(session, run_id)
  end)

  it("of a quorum is the plane's", function()
    local session, run_id = open("macp.mode.quorum.v1")
    session:approval_request({ request_id = "r1", action = "release", required_approvals = 2 })
    session:approve({ request_id = "r1", reason = "tested" }, as("ann"))
    session:abstain({ request_id = "r1" }, as("bob"))
    compare(session, run_id)
  end)

  it("of an auction is the plane's", function()
    local session, run_id = open("ext.auction.v1")
    local function seal(amount, nonce) return crypto.sha256_hex(amount .. ":" .. nonce) end
    session:open({ lot_id = "l1", title = "A lamp" })
    session:seal({ digest = seal(30, "x") }, as("ann"))
    session:seal({ digest = seal(30, "y") }, as("bob"))
    session:advance({ to = "revealing" })
    session:reveal({ amount = 30, nonce = "y" }, as("bob"))
    session:reveal({ amount = 30, nonce = "x" }, as("ann"))
    session:advance({ to = "closed" })
    assert.equal("ann", session:view().winner.bidder) -- the earlier seal wins the tie
    compare(session, run_id)
  end)
end)
