-- Silence as consent, over the wire: the runtime writes the acceptance at its deadline, whatever happens meanwhile.

local client = require("spec.support.runtime_client")

local crypto = require("host.crypto")
local fs = require("host.fs")
local json = require("host.json")
local task = require("host.task")

local messages = require("macp.protocol.messages")

local MODE, TIMEOUT_MS = "macp.mode.handoff.v1", 400
local SUSPENDED = 4

describe("an offer under an implicit acceptance", function()
  local rig, policies, id

  before_each(function()
    policies = assert(fs.temp_dir("macp-policies-"))
    assert(fs.write(policies .. "/silence.json", json.encode({ policy_id = "policy.spec.silence", mode = MODE,
      schema_version = 3, rules = { acceptance = { implicit_accept_timeout_ms = TIMEOUT_MS } } })))
    rig = assert(client.start({ env = { MACP_POLICIES_DIR = policies } }))
    id = crypto.uuid4()
  end)
  after_each(function()
    rig:destroy()
    fs.remove_tree(policies)
  end)

  local function send(token, message_type, message_id, fields)
    local name = message_type == "Commitment" and "macp.v1.CommitmentPayload"
      or "macp.modes.handoff.v1." .. message_type .. "Payload"
    return rig:send(token, client.envelope({ mode = MODE, session_id = id, message_type = message_type,
      message_id = message_id, payload = client.payload(name, fields) }))
  end

  -- Starts the session and offers; returns when the offer was accepted into the history.
  local function offer()
    local start = { participants = { "ann", "bob" }, policy_version = "policy.spec.silence" }
    local squatter = rig:send("ann", client.start_envelope(id, start,
      { mode = MODE, message_id = "implicit-accept:h1" }))
    assert.equal("INVALID_ENVELOPE", squatter.error.code)
    assert.is_true(rig:send("ann", client.start_envelope(id, start, { mode = MODE })).ok)
    local ack = send("ann", "HandoffOffer", "offer", { handoff_id = "h1", target_participant = "bob" })
    assert.is_true(ack.ok, ack.error and ack.error.message)
    return ack.accepted_at_unix_ms
  end

  -- Reads on until the acceptance is published.
  local function acceptance()
    local stream = rig:stream("ann")
    stream:subscribe(id, 2)
    local envelope = assert(stream:read()).envelope
    stream:cancel()
    return envelope
  end

  local function metadata() return assert(rig:call("ann", "GetSession", { session_id = id })).metadata end

  local function commit()
    return send("ann", "Commitment", "seal", { commitment_id = "c1", action = "handoff.accepted",
      authority_scope = "spec", reason = "silence", mode_version = "1.0.0", configuration_version = "config.default",
      outcome_positive = true })
  end

  it("is accepted by the clock, published, and not counted as the target's activity", function()
    local offered_at = offer()
    assert.equal("INVALID_ENVELOPE",
      send("bob", "HandoffAccept", "implicit-accept:h1", { handoff_id = "h1" }).error.code)
    assert.equal("INVALID_ENVELOPE",
      send("bob", "HandoffAccept", "mine", { handoff_id = "h1", implicit = true }).error.code)
    assert.equal("INVALID_ENVELOPE", commit().error.code)
    local envelope = acceptance()
    assert.same({ "HandoffAccept", "bob", "implicit-accept:h1", offered_at + TIMEOUT_MS },
      { envelope.message_type, envelope.sender, envelope.message_id, envelope.timestamp_unix_ms })
    assert.same({ handoff_id = "h1", accepted_by = "bob", reason = "implicit accept (timeout)", implicit = true },
      assert(messages.codec("macp.modes.handoff.v1.HandoffAcceptPayload"):decode(envelope.payload)))
    assert.equal("INVALID_ENVELOPE", send("bob", "HandoffDecline", "late", { handoff_id = "h1" }).error.code)
    local activity = metadata().participant_activity
    assert.same({ 1, "ann" }, { #activity, activity[1].participant_id })
    assert.equal(2, commit().session_state)
  end)

  it("waits while the session is suspended", function()
    local offered_at = offer()
    assert.is_true(assert(rig:call("ann", "SuspendSession", { session_id = id, reason = "lunch" })).ack.ok)
    task.sleep(2 * TIMEOUT_MS)
    assert.equal(SUSPENDED, metadata().state)
    assert.is_true(assert(rig:call("ann", "ResumeSession", { session_id = id, reason = "back" })).ack.ok)
    assert.equal("INVALID_ENVELOPE", commit().error.code) -- the clock has not run meanwhile
    local at = acceptance().timestamp_unix_ms
    assert.is_true(at >= offered_at + 3 * TIMEOUT_MS, at - offered_at)
    assert.equal(2, commit().session_state)
  end)

  it("is accepted at its deadline by a runtime that was down then", function()
    local offered_at = offer()
    local env = { MACP_POLICIES_DIR = policies }
    rig:stop()
    task.sleep(2 * TIMEOUT_MS)
    rig = assert(client.start({ dir = rig.dir, env = env }))
    assert.equal(offered_at + TIMEOUT_MS, acceptance().timestamp_unix_ms)
    rig = rig:again(env)
    assert.same({ "implicit-accept:h1", offered_at + TIMEOUT_MS },
      { acceptance().message_id, acceptance().timestamp_unix_ms })
    assert.equal(2, commit().session_state)
  end)

  it("is forestalled by an answer in time", function()
    offer()
    assert.is_true(send("bob", "HandoffDecline", "no", { handoff_id = "h1", reason = "busy" }).ok)
    task.sleep(2 * TIMEOUT_MS)
    local ack = send("ann", "HandoffContext", "note", { handoff_id = "h1", content_type = "text/plain" })
    assert.is_true(ack.ok)
    local stream = rig:stream("ann")
    stream:subscribe(id)
    assert.same({ "start", "offer", "no", "note" }, stream:ids(4))
    stream:cancel()
  end)
end)
