local client = require("spec.support.runtime_client")

local crypto = require("host.crypto")

local DECISION = "macp.modes.decision.v1."

local function proposal(id) return client.payload(DECISION .. "ProposalPayload", { proposal_id = id, option = "A" }) end

local function vote(id, value) return client.payload(DECISION .. "VotePayload", { proposal_id = id, vote = value }) end

local function commitment(fields)
  local payload = {
    commitment_id = "c1", action = "decision.selected", authority_scope = "team", reason = "agreed",
    mode_version = "1.0.0", configuration_version = "config.default", outcome_positive = true,
  }
  for key, value in pairs(fields or {}) do payload[key] = value end
  return client.payload("macp.v1.CommitmentPayload", payload)
end

describe("Send", function()
  local rig, id

  setup(function()
    rig = assert(client.start({
      env = {
        MACP_MAX_PAYLOAD_BYTES = "2048",
        MACP_AUTH_TOKENS_JSON = [=[[{"token":"boss","sender":"boss"},{"token":"ann","sender":"ann"},
          {"token":"bob","sender":"bob"},{"token":"eve","sender":"eve"},
          {"token":"narrow","sender":"narrow","allowed_modes":["ext.other.v1"]},
          {"token":"quiet","sender":"quiet","can_start_sessions":false},
          {"token":"single","sender":"single","max_open_sessions":1}]]=],
      },
    }))
  end)
  teardown(function() rig:destroy() end)
  before_each(function() id = crypto.uuid4() end)

  local function start(fields, changes, token)
    return rig:send(token or "boss", client.start_envelope(id, fields, changes))
  end

  local function send(token, fields)
    fields.session_id = fields.session_id or id
    return rig:send(token, client.envelope(fields))
  end

  local function state() return assert(rig:call("boss", "GetSession", { session_id = id })).metadata end

  it("takes a decision from start to commitment", function()
    local ack = start()
    assert.is_true(ack.ok)
    assert.equal(1, ack.session_state)
    assert.is_true(send("ann", { message_id = "p", payload = proposal("p1") }).ok)
    assert.is_true(send("bob", { message_id = "v", message_type = "Vote", payload = vote("p1", "approve") }).ok)
    ack = send("boss", { message_id = "c", message_type = "Commitment", payload = commitment() })
    assert.is_true(ack.ok)
    assert.equal(2, ack.session_state)
    local metadata = state()
    assert.equal(2, metadata.state)
    assert.equal("policy.default", metadata.policy_version)
    assert.same({ "ann", "bob", "boss" }, { metadata.participant_activity[1].participant_id,
      metadata.participant_activity[2].participant_id, metadata.participant_activity[3].participant_id })
  end)

  it("puts the authenticated sender, the ids and the acceptance time into the ack", function()
    local ack = start()
    assert.equal(id, ack.session_id)
    assert.equal("start", ack.message_id)
    assert.is_true(ack.accepted_at_unix_ms > 1600000000000)
    assert.equal(ack.accepted_at_unix_ms, state().started_at_unix_ms)
  end)

  local REFUSALS = {
    { "another protocol version", "UNSUPPORTED_PROTOCOL_VERSION", "ann", { macp_version = "2.0" } },
    { "an empty message id", "INVALID_ENVELOPE", "ann", { message_id = "" } },
    { "a blank mode", "INVALID_ENVELOPE", "ann", { mode = " " } },
    { "a payload over the limit", "PAYLOAD_TOO_LARGE", "ann", { payload = ("x"):rep(2049) } },
    { "no valid token", "UNAUTHENTICATED", "nobody", {} },
    { "no token", "UNAUTHENTICATED", nil, {} },
    { "somebody else's name", "UNAUTHENTICATED", "ann", { sender = "bob" } },
    { "a mode the identity may not use", "FORBIDDEN", "narrow", {} },
    { "an annotation of the runtime", "FORBIDDEN", "ann", { message_type = "SessionCancel" } },
    { "an unknown session", "SESSION_NOT_FOUND", "ann", { session_id = "unknown-session-unknown" } },
    { "another mode than the session's", "INVALID_ENVELOPE", "ann", { mode = "ext.auction.v1" } },
    { "an unknown type", "INVALID_ENVELOPE", "ann", { message_type = "Shout" } },
    { "an outsider", "FORBIDDEN", "eve", { payload = proposal("p1") } },
    { "a payload that does not decode", "INVALID_ENVELOPE", "ann", { payload = "\255\255\255" } },
    { "a payload without a required field", "INVALID_ENVELOPE", "ann", { payload = "" } },
    { "a vote on nothing", "INVALID_ENVELOPE", "ann", { message_type = "Vote", payload = vote("none", "APPROVE") } },
    { "a commitment of a participant", "FORBIDDEN", "ann", { message_type = "Commitment", payload = commitment() } },
    { "a commitment that is not ready", "INVALID_ENVELOPE", "boss",
      { message_type = "Commitment", payload = commitment() } },
    { "a commitment of another version", "INVALID_ENVELOPE", "boss",
      { message_type = "Commitment", payload = commitment({ mode_version = "9.9.9" }) } },
  }
  for _, case in ipairs(REFUSALS) do
    it("refuses " .. case[1] .. " and leaves no trace", function()
      assert.is_true(start().ok)
      local before = state()
      local ack = send(case[3], case[4])
      assert.is_false(ack.ok)
      assert.equal(case[2], ack.error.code)
      assert.equal(0, ack.session_state)
      assert.truthy(#ack.error.message > 0)
      assert.same(before, state())
      local stream = rig:stream("boss")
      stream:subscribe(id)
      stream:half_close()
      assert.same({ "start" }, stream:ids(1))
      assert.is_nil(stream:read())
    end)
  end

  local START_REFUSALS = {
    { "an id in upper case", "INVALID_SESSION_ID", changes = { session_id = crypto.uuid4():upper() } },
    { "an unknown mode", "MODE_NOT_SUPPORTED", changes = { mode = "ext.none.v1" } },
    { "an undecodable payload", "INVALID_ENVELOPE", changes = { payload = "\1\2\3" } },
    { "a ttl of zero", "INVALID_ENVELOPE", fields = { ttl_ms = 0 } },
    { "another mode version", "INVALID_ENVELOPE", fields = { mode_version = "3.0.0" } },
    { "an unknown policy", "UNKNOWN_POLICY_VERSION", fields = { policy_version = "policy.none" } },
    { "an identity that may not start", "FORBIDDEN", token = "quiet" },
  }
  for _, case in ipairs(START_REFUSALS) do
    it("refuses a start with " .. case[1], function()
      local ack = start(case.fields, case.changes, case.token)
      assert.is_false(ack.ok)
      assert.equal(case[2], ack.error.code)
      local _, err = rig:call("boss", "GetSession", { session_id = id })
      assert.equal(5, err.status)
    end)
  end

  it("answers a repeated message and a repeated start as duplicates", function()
    local first = start()
    local again = start()
    assert.is_true(again.ok and again.duplicate)
    assert.equal(first.accepted_at_unix_ms, again.accepted_at_unix_ms)
    local ack = start(nil, { message_id = "start" }, "eve")
    assert.equal("SESSION_ALREADY_EXISTS", ack.error.code)
    assert.is_true(send("ann", { payload = proposal("p1") }).ok)
    ack = send("ann", { payload = proposal("p1") })
    assert.is_true(ack.ok and ack.duplicate)
  end)

  it("lets an id be used after a message with it was refused", function()
    start()
    assert.is_false(send("ann", { message_id = "x", message_type = "Vote", payload = vote("p1", "APPROVE") }).ok)
    send("ann", { message_id = "p", payload = proposal("p1") })
    local ack = send("ann", { message_id = "x", message_type = "Vote", payload = vote("p1", "APPROVE") })
    assert.is_true(ack.ok)
    assert.is_false(ack.duplicate)
  end)

  it("tells the reasons of a policy denial", function()
    start({ policy_version = "policy.std.unanimous" })
    send("ann", { message_id = "p", payload = proposal("p1") })
    send("ann", { message_id = "v1", message_type = "Vote", payload = vote("p1", "APPROVE") })
    send("bob", { message_id = "v2", message_type = "Vote", payload = vote("p1", "REJECT") })
    local ack = send("boss", { message_id = "c", message_type = "Commitment", payload = commitment() })
    assert.equal("POLICY_DENIED", ack.error.code)
    local reasons = require("macp.core.json").decode(ack.error.details).reasons
    assert.is_true(#reasons > 0)
  end)

  it("tells the reason when a rule of the policy refuses another message than a commitment", function()
    local task, other = "macp.mode.task.v1", crypto.uuid4()
    local function say(token, message_type, message_id)
      return rig:send(token, client.envelope({ mode = task, session_id = other, message_type = message_type,
        message_id = message_id,
        payload = client.payload("macp.modes.task.v1." .. message_type .. "Payload", { task_id = "t1" }) }))
    end
    assert.is_true(rig:send("boss", client.start_envelope(other, nil, { mode = task })).ok)
    assert.is_true(say("boss", "TaskRequest", "q").ok)
    assert.is_true(say("ann", "TaskAccept", "a").ok)
    local refused = say("ann", "TaskReject", "r").error
    assert.equal("POLICY_DENIED", refused.code)
    assert.same({ "the policy allows the assignee to give the task back" },
      require("macp.core.json").decode(refused.details).reasons)
  end)

  it("limits the open sessions of an identity", function()
    assert.is_true(start(nil, nil, "single").ok)
    local other = crypto.uuid4()
    local ack = rig:send("single", client.start_envelope(other))
    assert.equal("RATE_LIMITED", ack.error.code)
    assert.equal(5, assert(rig:call("single", "CancelSession", { session_id = id })).ack.session_state)
    assert.is_true(rig:send("single", client.start_envelope(other)).ok)
  end)

  it("fails calls that carry no envelope, and bytes that are no message, with a status", function()
    local _, err = rig:call("boss", "Send", {})
    assert.equal(3, err.status)
    _, err = rig:call("boss", "Send", "\255\255\255\255")
    assert.equal(13, err.status)
    _, err = rig:call("boss", "Send", "\10\4\18\2\255\254") -- envelope.mode with invalid UTF-8
    assert.equal(13, err.status)
    _, err = rig:call("boss", "Send", ("x"):rep(2048 + 65536 + 1))
    assert.equal(8, err.status)
    assert.is_true(start().ok)
  end)

  it("expires a session at its deadline without being asked", function()
    start({ ttl_ms = 60 })
    local eventually = require("spec.support.eventually")
    eventually(function() return state().state == 3 end, 3000, "expiry")
    assert.equal("SESSION_NOT_OPEN", send("ann", { payload = proposal("p1") }).error.code)
  end)
end)

describe("calls that are given up", function()
  it("are accepted at most once and leave nothing behind", function()
    local messages = require("macp.protocol.messages")
    local rig, id = assert(client.start()), crypto.uuid4()
    rig:send("boss", client.start_envelope(id))
    local codec = messages.codec("macp.v1.SendRequest")
    for i = 1, 60 do
      local bytes = assert(codec:encode({
        envelope = client.envelope({ session_id = id, message_id = "m" .. i, payload = proposal("p" .. i) }),
      }))
      local opts = { metadata = { authorization = "Bearer ann" }, timeout_ms = 1 }
      rig.channel:unary(messages.rpc("Send").path, bytes, opts)
    end
    for i = 1, 60 do
      assert.is_true(rig:send("ann", client.envelope({
        session_id = id, message_id = "m" .. i, payload = proposal("p" .. i),
      })).ok)
    end
    assert.equal(61, rig.role.sessions.by_id[id].ordinals)
    require("spec.support.eventually")(function() return rig.role.server:stats().live == 0 end, 2000)
    rig:destroy()
  end)
end)

describe("rate limits", function()
  it("refuse the third start of one sender and leave others alone", function()
    local rig = assert(client.start({ env = { MACP_SESSION_START_LIMIT_PER_MINUTE = "2" } }))
    assert.is_true(rig:send("a", client.start_envelope(crypto.uuid4())).ok)
    assert.is_true(rig:send("a", client.start_envelope(crypto.uuid4())).ok)
    assert.equal("RATE_LIMITED", rig:send("a", client.start_envelope(crypto.uuid4())).error.code)
    assert.is_true(rig:send("b", client.start_envelope(crypto.uuid4())).ok)
    rig:destroy()
  end)
end)
