-- Sessions that the launcher opens for callers of the plane, over a real runtime: who sends what, what is refused, what
-- is done again after a restart, and that without the launcher the plane only observes.

local crypto = require("host.crypto")

local json = require("macp.core.json")
local messages = require("macp.protocol.messages")

local event_lists = require("spec.support.event_lists")
local plane_rig = require("spec.support.plane_rig")

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

local PROPOSAL = "macp.modes.decision.v1.ProposalPayload"
local OBSERVED = "this control plane only observes sessions; with LAUNCHER_ENABLED=true it opens them"

local function proposal(id)
  return { from = "ann", to = { "bob" }, kind = "proposal", messageType = "Proposal", payloadEnvelope = {
    encoding = "proto", proto = { typeName = PROPOSAL,
      value = { proposal_id = id, option = "ship", rationale = "tests pass" } } } }
end

local function request(session_id, kickoff, changes)
  local body = plane_rig.descriptor(session_id, { kickoff = kickoff })
  body.session.initiatorParticipantId = "boss"
  body.session.metadata = { intent = "pick one", cancellationDelegated = true }
  body.session.participants = { { id = "ann", role = "proposer" }, { id = "bob" } }
  for name, value in pairs(changes or {}) do body.session[name] = value end
  return body
end

describe("the launcher", function()
  local rig

  -- In development a runtime takes the token as the name; the plane must be named as an observer there.
  setup(function()
    rig = plane_rig.start({ env = { LAUNCHER_ENABLED = "true", RUNTIME_BEARER_TOKEN = "plane" },
      runtime_env = { MACP_AUTH_TOKENS_JSON = false, MACP_DEV_OBSERVERS = "plane" } })
  end)
  teardown(function() rig:destroy() end)

  local function refused(body)
    local status, problem = rig:post("/runs", body)
    return { status, problem.errorCode, problem.message }
  end

  it("opens the session as its initiator and sends the kickoff as its senders", function()
    local id = crypto.uuid4()
    local status, accepted = rig:post("/runs", request(id, { proposal("p1"), proposal("p2") }))
    assert.equal(202, status)
    rig:await(accepted.runId, "running")
    local sent = event_lists.of_type(rig:events(accepted.runId), "message.sent")
    assert.same({ 2, "ann", { "bob" }, "Proposal", "proposal" },
      { #sent, sent[1].data.from, sent[1].data.to, sent[1].data.messageType, sent[1].data.kind })
    local seen_as = {}
    for _, event in ipairs(event_lists.of_type(rig:events(accepted.runId), "participant.seen")) do
      seen_as[event.data.participantId] = event.data.role or "nothing"
    end
    assert.same({ "proposer", "nothing" }, { seen_as.ann, seen_as.bob })
    local _, state = rig:get("/runs/" .. accepted.runId .. "/state")
    for _, person in ipairs(state.participants) do
      assert.equal(person.participantId == "ann" and "proposer" or nil, person.role)
    end
    local metadata = assert(rig.runtime:call("plane", "GetSession", { session_id = id })).metadata
    assert.same({ "boss", { "ann", "bob" } }, { metadata.initiator, metadata.participants })
    local stream = rig.runtime:stream("plane")
    stream:subscribe(id)
    local seen = {}
    for i = 1, 3 do
      local envelope = assert(stream:read()).envelope
      seen[i] = envelope.sender .. " " .. envelope.message_type
      if i == 1 then
        local start = messages.codec("macp.v1.SessionStartPayload"):decode(envelope.payload)
        assert.equal("pick one", start.intent)
      end
    end
    stream:cancel()
    assert.same({ "boss SessionStart", "ann Proposal", "ann Proposal" }, seen)
  end)

  it("falls back to the first kickoff's sender, and to transport identities", function()
    local id = crypto.uuid4()
    local body = request(id, { proposal("p1") })
    body.session.initiatorParticipantId = nil
    body.session.participants = { { id = "ann", transportIdentity = "agent-ann" }, { id = "bob" } }
    local _, accepted = rig:post("/runs", body)
    rig:await(accepted.runId, "running")
    local metadata = assert(rig.runtime:call("plane", "GetSession", { session_id = id })).metadata
    assert.same({ "agent-ann", { "agent-ann", "bob" } }, { metadata.initiator, metadata.participants })
  end)

  it("fails a run whose start is refused, with the runtime's reason", function()
    local _, accepted = rig:post("/runs", request(crypto.uuid4(), { proposal("p1") },
      { policyVersion = "policy.nowhere" }))
    local run = rig:await(accepted.runId, "failed")
    assert.equal("UNKNOWN_POLICY_VERSION", run.errorCode)
  end)

  it("fails a run whose kickoff is refused, and says which message", function()
    local bad = proposal("p1")
    bad.messageType = "Nonsense"
    local _, accepted = rig:post("/runs", request(crypto.uuid4(), { bad, proposal("p2") }))
    local run = rig:await(accepted.runId, "failed")
    assert.equal("KICKOFF_FAILED", run.errorCode)
    assert.truthy(run.errorMessage:find("^Nonsense from ann was not sent: "), run.errorMessage)
    local events = rig:events(accepted.runId)
    assert.equal(0, #event_lists.of_type(events, "message.sent"))
    assert.equal(1, #event_lists.of_type(events, "message.send_failed"))
  end)

  it("sends payloads as JSON, text, base64 and protobuf, and JSON without an envelope", function()
    local payload = require("macp.launcher.payload")
    assert.equal('{"a":1}', payload.bytes({ encoding = "json", json = { a = 1 } }))
    assert.equal("{}", payload.bytes({ encoding = "json" }))
    assert.equal("hi", payload.bytes({ encoding = "text", text = "hi" }))
    assert.equal("", payload.bytes({ encoding = "text" }))
    assert.equal("hi", payload.bytes({ encoding = "base64", base64 = "aGk=" }))
    assert.equal('{"b":2}', payload.bytes(nil, { b = 2 }))
    assert.equal("", payload.bytes(nil, nil))
    local bytes = payload.bytes(proposal("p9").payloadEnvelope)
    assert.equal("p9", messages.codec(PROPOSAL):decode(bytes).proposal_id)
  end)

  local WRONG = {
    { "base64 that is none", { encoding = "base64", base64 = "%%" }, "kickoff.0.payloadEnvelope.base64 is not base64" },
    { "a message that nobody knows", { encoding = "proto", proto = { typeName = "no.Such", value = json.object({}) } },
      "kickoff.0.payloadEnvelope.proto.typeName is not a known message" },
    { "proto without proto", { encoding = "proto" }, "kickoff.0.payloadEnvelope.proto should not be empty" },
  }
  for _, case in ipairs(WRONG) do
    it("refuses " .. case[1] .. " before there is a run", function()
      local bad = proposal("p1")
      bad.payloadEnvelope = case[2]
      assert.same({ 400, "VALIDATION_ERROR", { case[3] } }, refused(request(crypto.uuid4(), { bad })))
    end)
  end

  it("refuses kickoffs of no form, and replays", function()
    local bad = proposal("p1")
    bad.to, bad.kind = json.array({}), "shout"
    local answer = refused(request(crypto.uuid4(), { bad }))
    assert.same({ "kickoff.0.to must contain at least 1 elements",
      "kickoff.0.kind must be one of the following values: "
      .. "request, broadcast, proposal, context" }, answer[3])
    local replay = request(crypto.uuid4(), { proposal("p1") })
    replay.mode = "replay"
    assert.same({ 400, "VALIDATION_ERROR",
      { "mode must be live or sandbox: a finished run is replayed with POST /runs/:id/replay" } }, refused(replay))
  end)

  it("still only observes what asks for nothing else", function()
    local id = crypto.uuid4()
    local _, accepted = rig:post("/runs", plane_rig.descriptor(id))
    rig:play(id)
    rig:await(accepted.runId, "completed")
    assert.equal(0, #event_lists.of_type(rig:events(accepted.runId), "message.sent"))
  end)

  it("sends again after a restart without sending twice", function()
    local id = crypto.uuid4()
    local body = request(id, { proposal("p1") })
    local _, accepted = rig:post("/runs", body)
    rig:await(accepted.runId, "running")
    local plan = assert(rig.plane.opens_sessions:plan(body, accepted.runId, id))
    for _, item in ipairs({ plan.start, plan.kickoffs[1] }) do
      assert.is_true(assert(rig.plane.opens_sessions:send(item)).duplicate)
    end
  end)
end)

describe("a launcher with a token of its own", function()
  local TOKENS = [=[[{"token":"opener","sender":"boss"},{"token":"ann","sender":"ann"},
    {"token":"plane","sender":"plane","is_observer":true,"can_start_sessions":false}]]=]
  local rig

  setup(function()
    rig = plane_rig.start({ env = { LAUNCHER_ENABLED = "true", LAUNCHER_BEARER_TOKEN = "opener",
      RUNTIME_BEARER_TOKEN = "plane" }, runtime_env = { MACP_AUTH_TOKENS_JSON = TOKENS } })
  end)
  teardown(function() rig:destroy() end)

  it("opens sessions as whoever the token is, whatever the request says, and the observer needs no right to", function()
    local id = crypto.uuid4()
    local _, accepted = rig:post("/runs", request(id, { proposal("p1") }, { initiatorParticipantId = "ann",
      participants = { { id = "ann" }, { id = "boss" } } }))
    rig:await(accepted.runId, "running")
    local metadata = assert(rig.runtime:call("plane", "GetSession", { session_id = id })).metadata
    assert.equal("boss", metadata.initiator)
    local received = event_lists.of_type(rig:events(accepted.runId), "message.received")
    for _, event in ipairs(received) do assert.equal("boss", event.data.sender) end
  end)

  it("fails the run when the runtime does not know the token", function()
    local plane = rig:start_plane({ LAUNCHER_BEARER_TOKEN = "wrong" })
    local first = rig.plane
    rig.plane = plane
    local _, accepted = rig:post("/runs", request(crypto.uuid4(), { proposal("p1") }))
    local run = rig:await(accepted.runId, "failed", 10000)
    rig.plane = first
    plane:close()
    assert.equal("UNAUTHENTICATED", run.errorCode)
  end)
end)

describe("a plane without launcher", function()
  local rig

  setup(function() rig = plane_rig.start() end)
  teardown(function() rig:destroy() end)

  it("refuses every field of a launch and names the setting", function()
    local body = request(crypto.uuid4(), { proposal("p1") })
    local status, problem = rig:post("/runs", body)
    assert.same({ 400, "VALIDATION_ERROR" }, { status, problem.errorCode })
    table.sort(problem.message)
    assert.same({ "property kickoff should not exist: " .. OBSERVED,
      "property session.initiatorParticipantId should not exist: " .. OBSERVED,
      "property session.participants.0.role should not exist: " .. OBSERVED }, problem.message)
    assert.equal(0, rig:rows("select count(*) as n from runs")[1].n)
  end)

  it("refuses to clone what a launcher opened", function()
    local problem = rig.plane.opening:check(request(crypto.uuid4(), { proposal("p1") }))
    assert.same({ 400, "VALIDATION_ERROR", { "the request opens a session: " .. OBSERVED } },
      { problem.http, problem.code, problem.message })
  end)
end)
