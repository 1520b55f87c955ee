-- The session helper against a real runtime: made from the mode's folder, whatever the mode.

local crypto = require("host.crypto")
local fs = require("host.fs")
local sys = require("host.sys")
local task = require("host.task")

local macp = require("macp.sdk")

local eventually = require("spec.support.eventually")
local patience = require("spec.support.patience")
local sdk_rig = require("spec.support.sdk_rig")

local raised, start_fields, DECISION, AUCTION = sdk_rig.raised, sdk_rig.start_fields, sdk_rig.DECISION, sdk_rig.AUCTION
local COMMIT = { action = "decision.selected", authority_scope = "team", reason = "agreed" }

local function types_of(envelopes)
  local out = {}
  for i, envelope in ipairs(envelopes) do out[i] = envelope.message_type end
  return out
end

local rig, lead, ana, ben

setup(function()
  rig = sdk_rig.start()
  lead, ana, ben = rig:client("lead"), rig:client("ana"), rig:client("ben")
end)
teardown(function() rig:close() end)

-- The same session seen by another agent.
local function join(client, session) return client:session(session.mode, { session_id = session.session_id }) end

describe("a session of the decision mode", function()
  it("is started, played and committed through methods named like its messages", function()
    local session = lead:session(DECISION)
    assert.equal("OPEN", session:start(start_fields()).session_state)
    local as_ana, as_ben = { auth = macp.auth.for_dev_agent("ana") }, { auth = macp.auth.for_dev_agent("ben") }
    session:proposal({ proposal_id = "p1", option = "memory", rationale = "fast" }, as_ana)
    session:evaluation({ proposal_id = "p1", recommendation = "APPROVE", confidence = 0.5, reason = "ok" }, as_ben)
    session:vote({ proposal_id = "p1", vote = "APPROVE" }, as_ana)
    session:send("Vote", { proposal_id = "p1", vote = "APPROVE" }, as_ben)
    local ack = session:commit(COMMIT)
    assert.equal("RESOLVED", ack.session_state)
    assert.equal("RESOLVED", session:metadata().state)
    assert.is_true(session.commitment.outcome_positive)
    assert.same({ "SessionStart", "Proposal", "Evaluation", "Vote", "Vote", "Commitment" }, types_of(session:history()))
    assert.same({ "lead", "ana", "ben" }, session.participants)
    assert.equal("lead", session.initiator)
    session:close()
    assert.is_nil((session:view()))
  end)

  it("binds itself to the versions of the start, whoever started it", function()
    local session = lead:session(DECISION, { configuration_version = "cfg-7", policy_version = "" })
    session:start(start_fields())
    local other = join(ana, session)
    other:follow(function() return false end)
    assert.equal("cfg-7", other.configuration_version)
    assert.equal("choose", other.intent)
    session:proposal({ proposal_id = "p", option = "x" }, { auth = macp.auth.for_dev_agent("ana") })
    session:vote({ proposal_id = "p", vote = "APPROVE" }, { auth = macp.auth.for_dev_agent("ana") })
    assert.is_true(session:commit(COMMIT).ok)
  end)

  it("names the field that a message does not have", function()
    local session = lead:session(DECISION)
    session:start(start_fields())
    local err = raised("MacpSessionError", session.proposal, session, { proposal_id = "p", optoin = "x" })
    assert.truthy(err.message:find("Proposal", 1, true) and err.message:find("optoin", 1, true), err.message)
    err = raised("MacpSessionError", session.proposal, session, { proposal_id = 7 })
    assert.truthy(err.message:find("proposal_id", 1, true), err.message)
    err = raised("MacpSessionError", session.send, session, "Porposal", {})
    assert.truthy(err.message:find("did you mean `Proposal`", 1, true), err.message)
    assert.same({ "SessionStart" }, types_of(session:history()))
    session:close()
  end)

  it("refuses misspelt options and fields of start and commit", function()
    local session = lead:session(DECISION)
    raised("MacpSdkError", lead.session, lead, DECISION, { sesion_id = "x" })
    raised("MacpSessionError", lead.session, lead, DECISION, { session_id = "short" })
    raised("MacpSdkError", session.start, session, start_fields({ ttl = 5 }))
    raised("MacpSdkError", session.start, session, start_fields(), { timeout = 5 })
    raised("MacpSessionError", session.start, session, start_fields({ ttl_ms = 0 }))
    raised("MacpSdkError", session.commit, session,
      { action = "a", authority_scope = "s", reason = "r", because = "x" })
    raised("MacpSessionError", session.commit, session, { action = "a", authority_scope = "s" })
    raised("MacpSdkError", session.cancel, session, { raeson = "x" })
    assert.equal("NOT_FOUND", raised("MacpTransportError", session.metadata, session).code)
  end)

  it("leaves its copy as it was when a message is refused", function()
    local session = lead:session(DECISION)
    session:start(start_fields())
    local before = session:view()
    local err = raised("MacpAckError", session.vote, session, { proposal_id = "none", vote = "APPROVE" },
      { auth = macp.auth.for_dev_agent("ana") })
    assert.is_string(err.code)
    assert.is_false(session:vote({ proposal_id = "none", vote = "APPROVE" },
      { auth = macp.auth.for_dev_agent("ana"), raise_on_nack = false }).ok)
    assert.same(before, (session:view()))
    session:close()
  end)

  it("is suspended, resumed and cancelled", function()
    local session = lead:session(DECISION)
    session:start(start_fields())
    session:suspend({ reason = "lunch" })
    local proposal = { proposal_id = "p", option = "x" }
    local as_ana = { auth = macp.auth.for_dev_agent("ana") }
    assert.equal("SESSION_NOT_OPEN", raised("MacpAckError", session.proposal, session, proposal, as_ana).code)
    session:resume()
    assert.is_true(session:proposal(proposal, as_ana).ok)
    assert.equal("CANCELLED", session:cancel({ reason = "enough" }).session_state)
    assert.equal("SESSION_NOT_OPEN", raised("MacpAckError", session.vote, session,
      { proposal_id = "p", vote = "APPROVE" }, as_ana).code)
    session:close()
  end)

  it("guards the sender", function()
    local session = lead:session(DECISION)
    raised("MacpIdentityMismatchError", session.start, session, start_fields(), { sender = "ana" })
  end)

  it("counts a repeated message once", function()
    local session = lead:session(DECISION)
    session:start(start_fields())
    local opts = { auth = macp.auth.for_dev_agent("ana"), message_id = "once" }
    session:proposal({ proposal_id = "p", option = "x" }, opts)
    assert.is_true(session:proposal({ proposal_id = "p", option = "x" }, opts).duplicate)
    assert.equal(2, #session:history())
    session:close()
  end)
end)

describe("following a session", function()
  local function open()
    local session = lead:session(DECISION)
    session:start(start_fields())
    return session
  end

  it("tells what was before and what comes, in order, until the commitment", function()
    local session = open()
    join(ana, session):proposal({ proposal_id = "p1", option = "x" })
    local told, caught_up = {}, task.cond()
    local watching = join(ben, session)
    local follower = task.spawn(function()
      watching:follow(function(envelope, payload)
        told[#told + 1] = envelope.message_type .. " "
          .. tostring(payload.proposal_id or payload.action or payload.intent)
        caught_up:broadcast()
      end)
    end)
    while #told < 2 do assert(caught_up:wait(5000)) end
    join(ana, session):vote({ proposal_id = "p1", vote = "APPROVE" })
    session:commit(COMMIT)
    assert(task.with_deadline(patience(5000), function()
      follower:join()
      return true
    end))
    assert.same({ "SessionStart choose", "Proposal p1", "Vote p1", "Commitment decision.selected" }, told)
    assert.equal("decision.selected", watching.commitment.action)
    session:close()
    watching:close()
  end)

  it("shows the state right after each envelope", function()
    local session = open()
    local as_ana = { auth = macp.auth.for_dev_agent("ana") }
    session:proposal({ proposal_id = "p1", option = "x" }, as_ana)
    session:vote({ proposal_id = "p1", vote = "APPROVE" }, as_ana)
    local expected = session:view()
    local views = {}
    session:follow(function()
      views[#views + 1] = session:view()
      return #views < 3
    end)
    assert.equal(3, #views)
    assert.not_same(views[1], views[2])
    assert.not_same(views[2], views[3])
    assert.same(expected, views[3])
    session:close()
  end)

  it("puts what it sends itself in the runtime's order, not in its own", function()
    local session = open()
    local watching = join(ana, session)
    local order, done = {}, false
    local follower = task.spawn(function()
      watching:follow(function(envelope)
        order[#order + 1] = envelope.message_id
        if #order == 1 then -- ben speaks first, and ana answers before she has read it
          join(ben, session):proposal({ proposal_id = "b", option = "y" }, { message_id = "ben-1" })
          watching:proposal({ proposal_id = "a", option = "x" }, { message_id = "ana-1" })
        end
        return #order < 3
      end)
      done = true
    end)
    eventually(function() return done end, 5000, "three envelopes")
    follower:join()
    assert.same({ "ben-1", "ana-1" }, { order[2], order[3] })
    local ids = {}
    for i, envelope in ipairs(watching:history()) do ids[i] = envelope.message_id end
    assert.same(order, ids)
    session:close()
    watching:close()
  end)

  it("starts after an ordinal", function()
    local session = open()
    session:proposal({ proposal_id = "p1", option = "x" }, { auth = macp.auth.for_dev_agent("ana") })
    local told = {}
    session:follow(function(envelope)
      told[#told + 1] = envelope.message_type
      return false
    end, { after_sequence = 1 })
    assert.same({ "Proposal" }, told)
    assert.equal(2, #session:history())
    session:close()
  end)

  it("reports a subscription that the runtime refuses", function()
    local session = lead:session(DECISION)
    local ok, err = pcall(session.follow, session, function() end, { timeout_ms = 5000 })
    assert.is_false(ok)
    assert.is_true(macp.errors.is(err, "MacpSdkError"), tostring(err))
    assert.is_false(macp.errors.is(err, "MacpTimeoutError"), tostring(err))
  end)

  it("ends at its timeout and when its callback fails, and leaves no stream", function()
    local session = open()
    local began = sys.mono_ms()
    raised("MacpTimeoutError", session.follow, session, function() end, { timeout_ms = 100 })
    assert.is_true(sys.mono_ms() - began < 20000)
    local ok, err = pcall(session.follow, session, function() error("a bug of the agent", 0) end)
    assert.same({ false, "a bug of the agent" }, { ok, err })
    assert.equal(0, session.followers)
    session:close()
  end)

  it("learns who sent what from the runtime when a token does not tell", function()
    local token = rig:client(nil, { auth = macp.auth.for_bearer("lead") })
    local session = token:session(DECISION)
    session:start(start_fields())
    assert.same({}, session:history())
    session:follow(function() return false end)
    assert.equal("lead", session.initiator)
    assert.is_table((session:view()))
    session:close()
  end)
end)

describe("a session of the auction mode", function()
  local function seal(amount, nonce) return crypto.sha256_hex(amount .. ":" .. nonce) end

  it("has the auction's methods and state", function()
    local session = lead:session(AUCTION)
    local as_ana, as_ben = { auth = macp.auth.for_dev_agent("ana") }, { auth = macp.auth.for_dev_agent("ben") }
    assert.is_nil(session.vote)
    session:start(start_fields())
    session:open({ lot_id = "l1", title = "A lamp" })
    session:seal({ digest = seal(30, "x") }, as_ana)
    session:seal({ digest = seal(40, "y") }, as_ben)
    session:advance({ to = "revealing" })
    session:reveal({ amount = 30, nonce = "x" }, as_ana)
    local err = raised("MacpAckError", session.reveal, session, { amount = 99, nonce = "y" }, as_ben)
    assert.truthy(err.message:find("the bid matches its seal", 1, true), err.message)
    session:reveal({ amount = 40, nonce = "y" }, as_ben)
    session:advance({ to = "closed" })
    local view = session:view()
    assert.equal("closed", view.phase)
    assert.equal("ben", view.winner.bidder)
    assert.same({ "ben", "ana" }, { view.board[1].bidder, view.board[2].bidder })
    session:commit({ action = "auction.accepted", authority_scope = "sale", reason = "ben bids most" })
    assert.equal("RESOLVED", session:metadata().state)
    session:close()
  end)

  it("follows messages that the clock sends", function()
    local session = lead:session(AUCTION)
    session:start(start_fields())
    session:open({ lot_id = "l1", seal_ms = 1000, reveal_ms = 1000 })
    local phases = {}
    session:follow(function(envelope)
      if envelope.message_type == "Advance" then phases[#phases + 1] = session:view().phase end
      return #phases < 2
    end, { timeout_ms = 10000 })
    assert.same({ "revealing", "closed" }, phases)
    local _, problem = session:view()
    assert.is_nil(problem)
    session:close()
  end)
end)

describe("a session of a mode of one's own", function()
  local MODE = [[
    return {
      id = "ext.spec.v1", version = "1.0.0", title = "Spec", summary = "For specs.",
      determinism = "semantic-deterministic", state = { n = 0 },
      messages = { BumpCount = {
        from = "participant", payload = "int64 by = 1;", needs = {},
        apply = function(s, p) s.n = s.n + p.by end,
      } },
      outcomes = { { action = "spec.completed", positive = true } },
      policy = { rules = { ["spec.limit"] = { type = "integer", min = 0, default = 5 } } },
    }]]
  local REDUCER = "return { render = function(s, c) return { n = s.n, limit = c.rules.spec.limit } end }"
  local dir, own

  setup(function()
    dir = assert(fs.temp_dir("macp-sdk-modes"))
    assert(fs.mkdir_p(dir .. "/count"))
    assert(fs.write(dir .. "/count/mode.lua", MODE))
    assert(fs.write(dir .. "/count/reducer.lua", REDUCER))
    local registry = require("macp.modes.registry").new({ dirs = { dir } })
    assert(registry:load_all())
    macp.use_registry(registry)
    own = sdk_rig.start({ mode_dirs = { dir } })
  end)
  teardown(function()
    own:close()
    fs.remove_tree(dir)
    macp.use_registry(nil)
  end)

  it("has a method per message, and shows the rules it was told", function()
    local client = own:client("lead")
    local session = client:session("ext.spec.v1")
    session:start(start_fields({ participants = { "lead" } }))
    session:bump_count({ by = 3 })
    assert.same({ n = 3, limit = 5 }, (session:view()))
    local told = client:session("ext.spec.v1", { session_id = session.session_id,
      policy = { rules = { spec = { limit = 9 } }, schema_version = 1 } })
    told:follow(function(envelope) return envelope.message_type ~= "BumpCount" end)
    assert.same({ n = 3, limit = 9 }, (told:view()))
    session:close()
    told:close()
  end)

  it("says so when the copy cannot follow", function()
    local session = own:client("lead"):session("ext.spec.v1")
    session:start(start_fields({ participants = { "lead" } }))
    session:observe({ mode = "ext.spec.v1", session_id = session.session_id, message_id = "x", sender = "lead",
      message_type = "Unheard", payload = "", timestamp_unix_ms = sys.now_ms() })
    local view, problem = session:view()
    assert.equal(0, view.n)
    assert.is_string(problem)
    session:close()
  end)
end)
