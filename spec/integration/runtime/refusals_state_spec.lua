-- What sessions that are not open, streams and limits refuse: code, words, and whether the stream ends.

local crypto = require("host.crypto")
local sys = require("host.sys")
local task = require("host.task")

local refusals = require("spec.support.refusals")
local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")

local TOKENS, proposal, with = refusals.TOKENS, refusals.proposal, refusals.with
local expect_ack, expect_text = refusals.expect_ack, refusals.expect_text
local MAX_PAYLOAD = 2048
local UNAUTHENTICATED, NOT_FOUND, INVALID = 16, 5, 3
local SIGNAL = { message_type = "Signal", mode = "", session_id = "" }

describe("the answer to a session that is not open:", function()
  local rig, id

  setup(function() rig = assert(client.start()) end)
  teardown(function() rig:destroy() end)
  before_each(function()
    id = crypto.uuid4()
    assert(rig:send("boss", client.start_envelope(id)).ok)
  end)

  local function control(method) return assert(rig:call("boss", method, { session_id = id, reason = "r" })).ack end

  local function expire()
    local session = rig.role.sessions.by_id[id]
    session.expires_at = sys.now_ms() - 1
    rig.role.sessions:settle(session)
    eventually(function() return session.state == 3 end, 2000)
  end

  -- state, how it gets there, what a message and a suspension are told, whether a resumption is, too
  local NOT_OPEN = {
    { "suspended", function() control("SuspendSession") end, "SessionNotOpen: SESSION_STATE_SUSPENDED" },
    { "cancelled", function() control("CancelSession") end, "SessionNotOpen: SESSION_STATE_CANCELLED", true },
    { "expired", expire, "TtlExpired: SESSION_STATE_EXPIRED", true },
  }
  for _, case in ipairs(NOT_OPEN) do
    it(case[1], function()
      case[2]()
      local envelope = client.envelope({ session_id = id, message_id = "m", payload = proposal("p") })
      expect_ack(rig:send("ann", envelope), "SESSION_NOT_OPEN", case[3], id, "m")
      expect_ack(control("SuspendSession"), "SESSION_NOT_OPEN", case[3], id, "")
      if case[4] then expect_ack(control("ResumeSession"), "SESSION_NOT_OPEN", case[3], id, "") end
      -- what was accepted before is still told as a duplicate
      local ack = rig:send("boss", client.start_envelope(id))
      assert.same({ true, true }, { ack.ok, ack.duplicate })
    end)
  end

  it("a resumption of one that is open", function()
    expect_ack(control("ResumeSession"), "SESSION_NOT_OPEN", "SessionNotOpen: SESSION_STATE_OPEN", id, "")
  end)

  it("a resumption after the cap of suspensions", function()
    local session = rig.role.sessions.by_id[id]
    session.max_suspend_ms = 1
    control("SuspendSession")
    task.sleep(20)
    expect_ack(control("ResumeSession"), "SESSION_NOT_OPEN", "TtlExpired: *", id, "")
    assert.equal(3, session.state)
    local ack = control("CancelSession") -- already over: told, and nothing is written
    assert.same({ true, 3 }, { ack.ok, ack.session_state })
  end)
end)

describe("the answer on a stream to", function()
  local rig, id

  setup(function()
    rig = assert(client.start({ env = { MACP_MAX_PAYLOAD_BYTES = tostring(MAX_PAYLOAD), MACP_AUTH_TOKENS_JSON = TOKENS,
      MACP_MESSAGE_LIMIT_PER_MINUTE = "1000000" } }))
    id = crypto.uuid4()
    assert(rig:send("boss", client.start_envelope(id)).ok)
  end)
  teardown(function() rig:destroy() end)

  local function envelope(fields)
    return { envelope = client.envelope(with({ session_id = id, message_id = "m" }, fields)) }
  end

  -- name, who, frame, code and text of the inline error
  local INLINE = {
    { "another version", "ann", { macp_version = "3" }, "UNSUPPORTED_PROTOCOL_VERSION",
      "InvalidMacpVersion: macp_version must be 1.0" },
    { "a payload over the limit", "ann", { payload = ("x"):rep(MAX_PAYLOAD + 1) }, "PAYLOAD_TOO_LARGE",
      "PayloadTooLarge: the payload has 2049 bytes, at most 2048 are allowed" },
    { "another mode", "ann", { mode = "macp.mode.task.v1" }, "INVALID_ENVELOPE",
      "InvalidEnvelope: the session's mode is macp.mode.decision.v1" },
    { "a mode that is not allowed", "narrow", {}, "FORBIDDEN", "Forbidden: the identity may not use this mode" },
    { "an outsider", "eve", { payload = proposal("p") }, "FORBIDDEN", "Forbidden: *" },
    { "a payload that does not decode", "ann", { payload = "\255" }, "INVALID_ENVELOPE", "*" },
    { "a type of the runtime", "ann", { message_type = "SessionCancel" }, "FORBIDDEN",
      "Forbidden: SessionCancel is written by the runtime only" },
    { "an unknown session", "ann", { session_id = "unknown-session-unknown" }, "SESSION_NOT_FOUND",
      "UnknownSession: no session has this id" },
    { "a start that is refused", "quiet", { message_type = "SessionStart" }, "FORBIDDEN",
      "Forbidden: the identity may not start sessions" },
  }
  for _, case in ipairs(INLINE) do
    it(case[1] .. " is inline, and the stream goes on", function()
      local stream = rig:stream(case[2])
      for _ = 1, 2 do -- the second shows that it is still there
        local frame = envelope(case[3])
        stream:write(frame)
        local failure = assert(stream:read()).error
        assert.same({ case[4], frame.envelope.session_id, "m", "" },
          { failure.code, failure.session_id, failure.message_id, failure.details })
        expect_text(case[5], failure.message)
      end
      stream:cancel()
    end)
  end

  -- name, who, frames, status and text of the end
  local ENDS = {
    { "a frame with both", "ann", function() return { with(envelope({}), { subscribe_session_id = id }) } end, INVALID,
      "a frame holds either an envelope or subscribe_session_id" },
    { "a frame with neither", "ann", function() return { {} } end, INVALID,
      "a frame holds either an envelope or subscribe_session_id" },
    { "an envelope of no session", "ann", function()
      return { { envelope = client.envelope(with(SIGNAL, { message_id = "s" })) } }
    end, INVALID, "envelopes on a stream name a session and a mode" },
    { "an unknown session to follow", "ann", function() return { { subscribe_session_id = "unknown" } } end, NOT_FOUND,
      "no session has this id" },
    { "somebody else's name", "ann", function() return { envelope({ sender = "bob" }) } end, UNAUTHENTICATED,
      "*sender is not the authenticated identity" },
    { "a second session", "ann", function()
      return { { subscribe_session_id = id }, { subscribe_session_id = "another" } }
    end, INVALID, "the stream is bound to session *" },
    { "an envelope of a second session", "ann", function()
      return { { subscribe_session_id = id }, envelope({ session_id = "another" }) }
    end, INVALID, "the stream is bound to session *" },
    { "no credential", nil, function() return { { subscribe_session_id = id } } end, UNAUTHENTICATED,
      "Unauthenticated: *" },
  }
  for _, case in ipairs(ENDS) do
    it(case[1] .. " is its end", function()
      local stream = rig:stream(case[2])
      for _, frame in ipairs(case[3]()) do stream:write(frame) end
      local response, err
      repeat response, err = stream:read() until response == nil
      assert.equal(case[4], err and err.status)
      expect_text(case[5], err.message)
    end)
  end

  it("a follower who may not read is inline, without a binding", function()
    local stream = rig:stream("eve")
    stream:subscribe(id)
    local failure = assert(stream:read()).error
    assert.same({ "FORBIDDEN", id, "" }, { failure.code, failure.session_id, failure.message_id })
    expect_text("Forbidden: only the initiator, participants and observers may subscribe", failure.message)
    stream:cancel()
  end)

  for _, method in ipairs({ "WatchSessions", "WatchSignals", "WatchPolicies" }) do
    it("a " .. method .. " without a credential is UNAUTHENTICATED", function()
      for _, token in ipairs({ false, "nobody" }) do
        local _, err = rig:watch(token or nil, method):read()
        assert.equal(UNAUTHENTICATED, err.status)
        expect_text("Unauthenticated: *", err.message)
      end
    end)
  end
end)

describe("the answer above a limit is RATE_LIMITED", function()
  it("in an ack and inline, for starts and messages apart, and refused attempts count for nothing", function()
    local rig = assert(client.start({ env = { MACP_MESSAGE_LIMIT_PER_MINUTE = "2",
      MACP_SESSION_START_LIMIT_PER_MINUTE = "1" } }))
    local id = crypto.uuid4()
    assert.is_true(rig:send("boss", client.start_envelope(id, { participants = { "boss", "ann" } })).ok)
    local other = crypto.uuid4()
    expect_ack(rig:send("boss", client.start_envelope(other)), "RATE_LIMITED", "RateLimited: more than 1 per minute",
      other, "start")
    for i = 1, 2 do -- refused later, and counted
      local bad = client.envelope({ session_id = id, message_id = "x" .. i, payload = "\255" })
      assert.is_false(rig:send("boss", bad).ok)
    end
    expect_ack(rig:send("boss", client.envelope({ session_id = id, payload = proposal("p") })), "RATE_LIMITED",
      "RateLimited: more than 2 per minute", id, "m1")
    expect_ack(rig:send("boss", client.envelope(with(SIGNAL, { message_id = "s" }))), "RATE_LIMITED",
      "RateLimited: more than 2 per minute", "", "s")
    local stream = rig:stream("boss")
    stream:write({ envelope = client.envelope({ session_id = id, payload = proposal("p") }) })
    local failure = assert(stream:read()).error
    assert.same({ "RATE_LIMITED", "RateLimited: more than 2 per minute", id, "m1" },
      { failure.code, failure.message, failure.session_id, failure.message_id })
    stream:cancel()
    assert.is_true(rig:send("ann", client.envelope({ session_id = id, payload = proposal("p") })).ok)
    rig:destroy()
  end)
end)
