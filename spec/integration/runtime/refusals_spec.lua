-- Every refusal of the runtime's RPCs: its status or negative ack, its code, its words, and that it leaves no trace. One
-- row per answer, in the order of the checks; what modes, policies and registries refuse is in their own specs.

local crypto = require("host.crypto")

local refusals = require("spec.support.refusals")
local client = require("spec.support.runtime_client")

local MAX_PAYLOAD, LONG = 2048, ("x"):rep(1025)
local TOKENS, proposal, with = refusals.TOKENS, refusals.proposal, refusals.with
local expect_ack, expect_text = refusals.expect_ack, refusals.expect_text
local UNAUTHENTICATED, DENIED, NOT_FOUND, INVALID, FAILED, INTERNAL = 16, 7, 5, 3, 9, 13
local function signal(fields) return client.payload("macp.v1.SignalPayload", fields) end

local function people(n)
  local list = {}
  for i = 1, n do list[i] = "p" .. i end
  return list
end

-- --- Send: name, who, envelope fields, code, exact text or a pattern ending in "*" ---

local SIGNAL = { message_type = "Signal", mode = "", session_id = "" }
local PROGRESS = { message_type = "Progress" }

local ENVELOPES = {
  -- 5.1, in its order: the earlier check wins
  { "another version, whatever else is wrong", "ann", { macp_version = "2.0", message_type = "", message_id = "" },
    "UNSUPPORTED_PROTOCOL_VERSION", "InvalidMacpVersion: macp_version must be 1.0" },
  { "no version", "ann", { macp_version = "" },
    "UNSUPPORTED_PROTOCOL_VERSION", "InvalidMacpVersion: macp_version must be 1.0" },
  { "no type", "ann", { message_type = "" }, "INVALID_ENVELOPE", "InvalidEnvelope: message_type is empty" },
  { "no message id", "ann", { message_id = "" }, "INVALID_ENVELOPE", "InvalidEnvelope: message_id is empty" },
  { "a signal of a session", "ann", with(SIGNAL, { session_id = "x" }),
    "INVALID_ENVELOPE", "InvalidEnvelope: a Signal has no session_id" },
  { "a signal with a mode", "ann", with(SIGNAL, { mode = "m" }),
    "INVALID_ENVELOPE", "InvalidEnvelope: a Signal has no mode" },
  { "progress with a mode only", "ann", with(PROGRESS, { session_id = "" }),
    "INVALID_ENVELOPE", "InvalidEnvelope: Progress with a mode needs a session_id" },
  { "progress with a session only", "ann", with(PROGRESS, { mode = " " }),
    "INVALID_ENVELOPE", "InvalidEnvelope: mode is blank" },
  { "no session id", "ann", { session_id = "" }, "INVALID_ENVELOPE", "InvalidEnvelope: session_id is empty" },
  { "a blank mode", "ann", { mode = "\t " }, "INVALID_ENVELOPE", "InvalidEnvelope: mode is blank" },
  { "a payload over the limit", "ann", { payload = ("x"):rep(MAX_PAYLOAD + 1) },
    "PAYLOAD_TOO_LARGE", "PayloadTooLarge: the payload has 2049 bytes, at most 2048 are allowed" },
  { "a long session id", "ann", { session_id = ("s"):rep(257) },
    "INVALID_ENVELOPE", "InvalidEnvelope: session_id is longer than 256 bytes" },
  { "a long message id", "ann", { message_id = LONG },
    "INVALID_ENVELOPE", "InvalidEnvelope: a field is longer than 1024 bytes" },
  { "a long mode", "ann", { mode = LONG }, "INVALID_ENVELOPE", "InvalidEnvelope: a field is longer than 1024 bytes" },
  { "a long type", "ann", { message_type = LONG },
    "INVALID_ENVELOPE", "InvalidEnvelope: a field is longer than 1024 bytes" },
  { "a long sender", "ann", { sender = LONG },
    "INVALID_ENVELOPE", "InvalidEnvelope: a field is longer than 1024 bytes" },
  { "a NUL in the message id", "ann", { message_id = "a\0b" },
    "INVALID_ENVELOPE", "InvalidEnvelope: a field contains a NUL byte" },
  { "a NUL in the mode", "ann", { mode = "a\0b" }, "INVALID_ENVELOPE", "InvalidEnvelope: a field contains a NUL byte" },
  { "SessionCancel", "ann", { message_type = "SessionCancel" },
    "FORBIDDEN", "Forbidden: SessionCancel is written by the runtime only" },
  { "SessionSuspend", "ann", { message_type = "SessionSuspend" },
    "FORBIDDEN", "Forbidden: SessionSuspend is written by the runtime only" },
  { "SessionResume", "ann", { message_type = "SessionResume" },
    "FORBIDDEN", "Forbidden: SessionResume is written by the runtime only" },
  -- 5.2, 5.3, 9: who it is comes before what it says
  { "a bad token and a bad envelope", "nobody", { macp_version = "" }, "UNAUTHENTICATED", "Unauthenticated: *" },
  { "no token", nil, {}, "UNAUTHENTICATED", "Unauthenticated: *" },
  { "somebody else's name", "ann", { sender = "bob" },
    "UNAUTHENTICATED", "Unauthenticated: sender is not the authenticated identity" },
  { "a mode the identity may not use", "narrow", {}, "FORBIDDEN", "Forbidden: the identity may not use this mode" },
  -- 5.5
  { "an unknown session", "ann", { session_id = "unknown-session-unknown" },
    "SESSION_NOT_FOUND", "UnknownSession: no session has this id" },
  { "another mode than the session's", "ann", { mode = "ext.auction.v1" },
    "INVALID_ENVELOPE", "InvalidEnvelope: the session's mode is macp.mode.decision.v1" },
  { "a type of another mode", "ann", { message_type = "Bid" }, "INVALID_ENVELOPE", "*Bid*" },
  { "an outsider", "eve", { payload = proposal("p") }, "FORBIDDEN", "Forbidden: *" },
  { "a payload that does not decode", "ann", { payload = "\255\255" }, "INVALID_ENVELOPE", "*" },
  { "an outsider who repeats an id", "eve", { message_id = "start" },
    "FORBIDDEN", "Forbidden: the sender may not read this session" },
  -- 5.6
  { "a signal that does not decode", "ann", with(SIGNAL, { payload = "\255" }),
    "INVALID_ENVELOPE", "InvalidPayload: *" },
  { "a signal of no type", "ann", with(SIGNAL, { payload = signal({ signal_type = " ", data = "x" }) }),
    "INVALID_ENVELOPE", "InvalidPayload: signal_type is blank" },
  { "progress that does not decode", "ann", with(PROGRESS, { payload = "\255" }),
    "INVALID_ENVELOPE", "InvalidPayload: *" },
  { "progress of an unknown session", "ann", with(PROGRESS, { session_id = "unknown" }),
    "SESSION_NOT_FOUND", "UnknownSession: no session has this id" },
  { "progress of an outsider", "eve", PROGRESS,
    "FORBIDDEN", "Forbidden: the sender does not take part in the session" },
}

-- --- SessionStart: name, who, payload fields, envelope fields, code, text ---

local BAD_ID = "InvalidSessionId: use a lower-case UUID v4 or v7, or at least 22 characters of [A-Za-z0-9_-]"
local TTL = "InvalidTtl: ttl_ms must be between 1 and 86400000"

local STARTS = {
  { "a short id", "boss", nil, { session_id = ("a"):rep(21) }, "INVALID_SESSION_ID", BAD_ID },
  { "a UUID of version 1", "boss", nil, { session_id = "c232ab00-9414-11ec-b3c8-9f6bdeced846" },
    "INVALID_SESSION_ID", BAD_ID },
  { "a UUID in upper case", "boss", nil, { session_id = "0F8FAD5B-D9CB-469F-A165-70867728950E" },
    "INVALID_SESSION_ID", BAD_ID },
  { "an id that is a path", "boss", nil, { session_id = "../../../../../../etc/passwd" },
    "INVALID_SESSION_ID", BAD_ID },
  { "an id of 256 bytes", "boss", nil, { session_id = ("a"):rep(256) }, "INVALID_SESSION_ID", BAD_ID },
  { "an unknown mode", "boss", nil, { mode = "ext.none.v1" },
    "MODE_NOT_SUPPORTED", 'UnknownMode: mode "ext.none.v1" is not registered' },
  { "no payload", "boss", nil, { payload = "" }, "INVALID_ENVELOPE", "InvalidPayload: the payload is empty" },
  { "a payload that does not decode", "boss", nil, { payload = "\1\2\3" }, "INVALID_ENVELOPE", "InvalidPayload: *" },
  { "a blank mode version", "boss", { mode_version = " " }, nil,
    "INVALID_ENVELOPE", "InvalidPayload: mode_version is blank" },
  { "a blank configuration version", "boss", { configuration_version = "\n" }, nil,
    "INVALID_ENVELOPE", "InvalidPayload: configuration_version is blank" },
  { "1001 participants", "boss", { participants = people(300) }, { payload = "many" },
    "INVALID_ENVELOPE", "InvalidPayload: 1001 participants, at most 1000 are allowed" },
  { "a blank participant", "boss", { participants = { "ann", " " } }, nil,
    "INVALID_ENVELOPE", "InvalidPayload: participants[2] is blank" },
  { "a participant of wide spaces", "boss", { participants = { "ann", "\u{A0}" } }, nil,
    "INVALID_ENVELOPE", "InvalidPayload: participants[2] is blank" },
  { "a participant with wide spaces", "boss", { participants = { "\u{3000}ann", "bob" } }, nil,
    "INVALID_ENVELOPE", "InvalidPayload: participants[1] has white space around it" },
  { "a participant with white space", "boss", { participants = { "ann ", "bob" } }, nil,
    "INVALID_ENVELOPE", "InvalidPayload: participants[1] has white space around it" },
  { "a participant twice", "boss", { participants = { "ann", "ann" } }, nil,
    "INVALID_ENVELOPE", 'InvalidPayload: participants[2] repeats "ann"' },
  { "another mode version", "boss", { mode_version = "3.0.0" }, nil,
    "INVALID_ENVELOPE", 'InvalidEnvelope: mode_version "3.0.0" is not registered' },
  { "a ttl of zero", "boss", { ttl_ms = 0 }, nil, "INVALID_ENVELOPE", TTL },
  { "a negative ttl", "boss", { ttl_ms = -5 }, nil, "INVALID_ENVELOPE", TTL },
  { "a ttl beyond a day", "boss", { ttl_ms = 86400001 }, nil, "INVALID_ENVELOPE", TTL },
  { "a negative suspension cap", "boss", { max_suspend_ms = -1 }, nil,
    "INVALID_ENVELOPE", "InvalidPayload: max_suspend_ms must not be negative" },
  { "an unknown policy", "boss", { policy_version = "policy.none" }, nil, "UNKNOWN_POLICY_VERSION",
    "UnknownPolicyVersion: *policy.none*" },
  { "a policy of another mode", "boss", { policy_version = "policy.std.majority" }, { mode = "macp.mode.task.v1" },
    "INVALID_POLICY_DEFINITION", "InvalidPolicyDefinition: *" },
  { "an identity that may not start", "quiet", nil, nil,
    "FORBIDDEN", "Forbidden: the identity may not start sessions" },
  { "an identity of other modes", "narrow", nil, nil, "FORBIDDEN", "Forbidden: the identity may not use this mode" },
}

-- --- unary RPCs: method, who, request, status, text ---

local STRANGER = "FORBIDDEN: only the initiator and whom the policy names may do this"
local MANAGE = "FORBIDDEN: the identity may not manage the registries"

local function calls(id)
  local own, none = { session_id = id }, { session_id = "unknown" }
  return {
    { "Initialize", nil, {}, INVALID, "supported_protocol_versions is empty" },
    { "Initialize", nil, { supported_protocol_versions = { "0.9", "2.0" } }, FAILED,
      "UNSUPPORTED_PROTOCOL_VERSION: this runtime speaks 1.0" },
    { "Initialize", nil, "\255", INTERNAL, "the request does not decode: *" },
    { "Send", nil, {}, INVALID, "*envelope*" },
    { "Send", "boss", "\255", INTERNAL, "the request does not decode: *" },
    { "GetSession", nil, own, UNAUTHENTICATED, "Unauthenticated: *" },
    { "GetSession", "nobody", own, UNAUTHENTICATED, "Unauthenticated: *" },
    { "GetSession", "eve", none, NOT_FOUND, "no session has this id" },
    { "GetSession", "eve", own, DENIED, "FORBIDDEN: only the initiator, participants and observers may read" },
    { "GetSession", "boss", "\255", INTERNAL, "the request does not decode: *" },
    { "CancelSession", nil, own, UNAUTHENTICATED, "Unauthenticated: *" },
    { "CancelSession", "boss", none, NOT_FOUND, "no session has this id" },
    { "CancelSession", "ann", own, DENIED, STRANGER },
    { "CancelSession", "boss", "\255", INTERNAL, "the request does not decode: *" },
    { "SuspendSession", nil, own, UNAUTHENTICATED, "Unauthenticated: *" },
    { "SuspendSession", "boss", none, NOT_FOUND, "no session has this id" },
    { "SuspendSession", "ann", own, DENIED, STRANGER },
    { "ResumeSession", nil, own, UNAUTHENTICATED, "Unauthenticated: *" },
    { "ResumeSession", "boss", none, NOT_FOUND, "no session has this id" },
    { "ResumeSession", "ann", own, DENIED, STRANGER },
    { "GetManifest", nil, { agent_id = "somebody" }, NOT_FOUND, "no manifest of this agent" },
    { "GetManifest", nil, "\255", INTERNAL, "the request does not decode: *" },
    { "RegisterExtMode", nil, {}, UNAUTHENTICATED, "Unauthenticated: *" },
    { "RegisterExtMode", "ann", {}, DENIED, "Forbidden: the identity may not manage the mode registry" },
    { "RegisterExtMode", "boss", {}, INVALID, "mode_descriptor is absent" },
    { "UnregisterExtMode", "ann", { mode = "x" }, DENIED, "Forbidden: the identity may not manage the mode registry" },
    { "PromoteMode", "ann", { mode = "x" }, DENIED, "Forbidden: the identity may not manage the mode registry" },
    { "RegisterPolicy", nil, {}, UNAUTHENTICATED, "Unauthenticated: *" },
    { "RegisterPolicy", "ann", {}, DENIED, MANAGE },
    { "RegisterPolicy", "boss", {}, INVALID, "policy_descriptor is absent" },
    { "UnregisterPolicy", "ann", { policy_id = "x" }, DENIED, MANAGE },
    { "GetPolicy", nil, { policy_id = "x" }, UNAUTHENTICATED, "Unauthenticated: *" },
    { "GetPolicy", "ann", { policy_id = "x" }, NOT_FOUND, 'policy "x" is not registered' },
    { "ListPolicies", nil, {}, UNAUTHENTICATED, "Unauthenticated: *" },
    { "ListSessions", nil, {}, UNAUTHENTICATED, "Unauthenticated: *" },
    { "ListSessions", "ann", { page_size = -1 }, INVALID, "page_size is negative" },
    { "ListSessions", "ann", { page_token = "!" }, INVALID, "page_token is not valid" },
    { "ListSessions", "ann", { page_token = "djE6YQ==" }, INVALID, "page_token is not valid" }, -- padded
  }
end

describe("the answer to", function()
  local rig, id, count

  setup(function()
    rig = assert(client.start({
      env = { MACP_MAX_PAYLOAD_BYTES = tostring(MAX_PAYLOAD), MACP_AUTH_TOKENS_JSON = TOKENS },
    }))
    id = crypto.uuid4()
    assert(rig:send("boss", client.start_envelope(id)).ok)
    count = rig.role.sessions.count
  end)
  teardown(function() rig:destroy() end)

  -- Records, sessions and ids are what they were.
  local function expect_no_trace(fn)
    local session = rig.role.sessions.by_id[id]
    local before = { session.lsn, session.ordinals, rig.role.journal:count(id) }
    fn()
    assert.same(before, { session.lsn, session.ordinals, rig.role.journal:count(id) })
    assert.equal(count, rig.role.sessions.count)
  end

  for _, case in ipairs(ENVELOPES) do
    it("an envelope with " .. case[1] .. " is " .. case[4], function()
      expect_no_trace(function()
        local envelope = client.envelope(with({ session_id = id, message_id = "m" }, case[3]))
        expect_ack(rig:send(case[2], envelope), case[4], case[5], envelope.session_id, envelope.message_id)
        assert.is_nil(rig.role.sessions.by_id[id].ids.m)
      end)
    end)
  end

  for _, case in ipairs(STARTS) do
    it("a start with " .. case[1] .. " is " .. case[5], function()
      expect_no_trace(function()
        local envelope = client.start_envelope(crypto.uuid4(), case[3], case[4])
        if envelope.payload == "many" then -- more than the limit of this runtime holds by their full names
          envelope.payload = client.payload("macp.v1.SessionStartPayload", { participants = { "a" }, ttl_ms = 5,
            mode_version = "1.0.0", configuration_version = "c" }) .. ("\18\0"):rep(1000) -- participants, all empty
        end
        expect_ack(rig:send(case[2], envelope), case[5], case[6], envelope.session_id, "start")
        local _, err = rig:call("boss", "GetSession", { session_id = envelope.session_id })
        assert.equal(NOT_FOUND, err.status)
      end)
    end)
  end

  it("a second start under an id is SESSION_ALREADY_EXISTS, of the same sender too", function()
    for _, token in ipairs({ "boss", "eve" }) do
      expect_no_trace(function()
        expect_ack(rig:send(token, client.start_envelope(id, nil, { message_id = "other" })),
          "SESSION_ALREADY_EXISTS", "SessionAlreadyExists: the session id is taken", id, "other")
      end)
    end
  end)

  it("one session more than an identity may have open is RATE_LIMITED", function()
    local first, second = crypto.uuid4(), crypto.uuid4()
    assert.is_true(rig:send("single", client.start_envelope(first)).ok)
    expect_ack(rig:send("single", client.start_envelope(second)), "RATE_LIMITED",
      "RateLimited: 1 sessions are open already", second, "start")
    assert.is_true(rig:call("single", "SuspendSession", { session_id = first }).ack.ok)
    expect_ack(rig:send("single", client.start_envelope(second)), "RATE_LIMITED",
      "RateLimited: 1 sessions are open already", second, "start") -- a suspended one counts
    count = rig.role.sessions.count
  end)

  it("each call that cannot be served is a status with its reason", function()
    for _, case in ipairs(calls(id)) do
      local answer, err = rig:call(case[2], case[1], case[3])
      assert.is_nil(answer, case[1])
      assert.equal(case[4], err.status, case[1] .. ": " .. err.message)
      expect_text(case[5], err.message)
    end
  end)
end)
