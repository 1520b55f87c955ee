-- Every answer of the protocol, provoked: each RPC with each refusal it has, and each code of the error registry on Send
-- and on StreamSession. Both tables are checked to be complete.

local client = require("spec.support.runtime_client")

local crypto = require("host.crypto")
local fs = require("host.fs")
local rpc = require("host.rpc")
local sys = require("host.sys")

local codes = require("macp.protocol.codes")
local json = require("macp.core.json")
local messages = require("macp.protocol.messages")

local S = rpc.status
local TOKENS = [=[[{"token":"boss","sender":"boss","can_manage_mode_registry":true},{"token":"ann","sender":"ann"},
  {"token":"bob","sender":"bob"},{"token":"eve","sender":"eve"},
  {"token":"eye","sender":"eye","is_observer":true},{"token":"one","sender":"one","max_open_sessions":0},
  {"token":"narrow","sender":"narrow","allowed_modes":["ext.other.v1"]},
  {"token":"quiet","sender":"quiet","can_start_sessions":false}]]=]
local ENV = { MACP_AUTH_TOKENS_JSON = TOKENS, MACP_MAX_PAYLOAD_BYTES = "2048" }
local UNDECODABLE = "\255\255\255"
local MODE = { mode = "ext.answers.v1", mode_version = "1.0.0", description = "x", message_types = { "Commitment" },
  terminal_message_types = { "Commitment" } }
local POLICY = { policy_id = "policy.answers", mode = "*", rules = "{}", schema_version = 1 }

-- Tells session ids apart from constants in the table: filled with the id of an open session at run time.
local ID = {}

local function fill(value, id)
  if value == ID then return id end
  if type(value) ~= "table" then return value end
  local out = {}
  for name, inner in pairs(value) do out[name] = fill(inner, id) end
  return out
end

-- method = { { what, token (false: none), request, status, in-band `ok` or ack code } }; streams are told by STREAMS.
local ANSWERS = {
  Initialize = {
    { "no version", false, {}, S.INVALID_ARGUMENT },
    { "a foreign version", false, { supported_protocol_versions = { "99.0" } }, S.FAILED_PRECONDITION },
    { "1.0 among others, with a bad credential", "bad", { supported_protocol_versions = { "0.9", "1.0" } }, S.OK },
  },
  Send = {
    { "no envelope", "boss", {}, S.INVALID_ARGUMENT },
    { "no envelope and no credential", false, {}, S.INVALID_ARGUMENT },
    { "no credential", false, { envelope = client.envelope({ session_id = ID }) }, S.OK, "UNAUTHENTICATED" },
    { "a bad credential", "bad", { envelope = client.envelope({ session_id = ID }) }, S.OK, "UNAUTHENTICATED" },
  },
  GetSession = {
    { "no credential", false, { session_id = ID }, S.UNAUTHENTICATED },
    { "a bad credential", "bad", { session_id = ID }, S.UNAUTHENTICATED },
    { "an unknown session", "boss", { session_id = "unknown" }, S.NOT_FOUND },
    { "a stranger", "eve", { session_id = ID }, S.PERMISSION_DENIED },
    { "an observer", "eye", { session_id = ID }, S.OK },
    { "a participant", "ann", { session_id = ID }, S.OK },
  },
  GetManifest = {
    { "another agent", false, { agent_id = "agent://nobody" }, S.NOT_FOUND },
    { "no agent, with a bad credential", "bad", {}, S.OK },
  },
  ListModes = { { "a bad credential", "bad", {}, S.OK } },
  ListExtModes = { { "a bad credential", "bad", {}, S.OK } },
  ListRoots = { { "a bad credential", "bad", {}, S.OK } },
  ListSessions = {
    { "no credential", false, {}, S.UNAUTHENTICATED },
    { "a negative page size", "eve", { page_size = -1 }, S.INVALID_ARGUMENT },
    { "a token that is none", "eve", { page_token = "!" }, S.INVALID_ARGUMENT },
    { "a stranger", "eve", {}, S.OK },
  },
  RegisterExtMode = {
    { "no credential", false, { mode_descriptor = MODE }, S.UNAUTHENTICATED },
    { "no right", "ann", { mode_descriptor = MODE }, S.PERMISSION_DENIED },
    { "no right and no descriptor", "ann", {}, S.PERMISSION_DENIED },
    { "no descriptor", "boss", {}, S.INVALID_ARGUMENT },
    { "an empty descriptor", "boss", { mode_descriptor = {} }, S.OK, false },
    { "a good one", "boss", { mode_descriptor = MODE }, S.OK, true },
    { "the same again", "boss", { mode_descriptor = MODE }, S.OK, false },
  },
  UnregisterExtMode = {
    { "no credential", false, { mode = "x" }, S.UNAUTHENTICATED },
    { "no right", "ann", { mode = "x" }, S.PERMISSION_DENIED },
    { "an unknown mode", "boss", { mode = "ext.none.v1" }, S.OK, false },
    { "a standard mode", "boss", { mode = "macp.mode.task.v1" }, S.OK, false },
  },
  PromoteMode = {
    { "no credential", false, { mode = "x" }, S.UNAUTHENTICATED },
    { "no right", "ann", { mode = "x" }, S.PERMISSION_DENIED },
    { "an unknown mode", "boss", { mode = "ext.none.v1" }, S.OK, false },
    { "a reserved name", "boss", { mode = "ext.multi_round.v1", promoted_mode_name = "macp.mode.x.v1" }, S.OK, false },
  },
  RegisterPolicy = {
    { "no credential", false, { policy_descriptor = POLICY }, S.UNAUTHENTICATED },
    { "no right", "ann", { policy_descriptor = POLICY }, S.PERMISSION_DENIED },
    { "no descriptor", "boss", {}, S.INVALID_ARGUMENT },
    { "an empty descriptor", "boss", { policy_descriptor = {} }, S.OK, false },
    { "a good one", "boss", { policy_descriptor = POLICY }, S.OK, true },
    { "the same again", "boss", { policy_descriptor = POLICY }, S.OK, false },
  },
  UnregisterPolicy = {
    { "no credential", false, { policy_id = "x" }, S.UNAUTHENTICATED },
    { "no right", "ann", { policy_id = "x" }, S.PERMISSION_DENIED },
    { "an unknown policy", "boss", { policy_id = "policy.none" }, S.OK, false },
    { "the built-in policy", "boss", { policy_id = "policy.default" }, S.OK, false },
  },
  GetPolicy = {
    { "no credential", false, { policy_id = "policy.default" }, S.UNAUTHENTICATED },
    { "an unknown policy", "ann", { policy_id = "policy.none" }, S.NOT_FOUND },
    { "a known one", "eve", { policy_id = "policy.default" }, S.OK },
  },
  ListPolicies = {
    { "no credential", false, {}, S.UNAUTHENTICATED },
    { "anybody", "eve", {}, S.OK },
  },
}
-- An initiator's calls have the same refusals; ResumeSession stands for what comes after authority.
for _, method in ipairs({ "CancelSession", "SuspendSession", "ResumeSession" }) do
  ANSWERS[method] = {
    { "no credential", false, { session_id = ID }, S.UNAUTHENTICATED },
    { "a bad credential", "bad", { session_id = ID }, S.UNAUTHENTICATED },
    { "an unknown session", "boss", { session_id = "unknown" }, S.NOT_FOUND },
    { "a participant", "ann", { session_id = ID }, S.PERMISSION_DENIED },
    { "a stranger", "eve", { session_id = ID }, S.PERMISSION_DENIED },
  }
end
table.insert(ANSWERS.ResumeSession, { "an open session", "boss", { session_id = ID }, S.OK, "SESSION_NOT_OPEN" })

-- Streams: the status of an opening with a token; nil: it stays open (and has sent `first` responses).
local STREAMS = {
  WatchModeRegistry = { { false, nil, 1 }, { "bad", nil, 1 } },
  WatchRoots = { { false, nil, 1 }, { "bad", nil, 1 } },
  WatchSignals = { { false, S.UNAUTHENTICATED }, { "bad", S.UNAUTHENTICATED }, { "eve", nil, 0 } },
  WatchSessions = { { false, S.UNAUTHENTICATED }, { "bad", S.UNAUTHENTICATED }, { "eve", nil, 1 } },
  WatchPolicies = { { false, S.UNAUTHENTICATED }, { "bad", S.UNAUTHENTICATED }, { "eve", nil, 1 } },
  StreamSession = { { false, S.UNAUTHENTICATED }, { "bad", S.UNAUTHENTICATED }, { "eve", nil, 0 } },
}

local function payload(name, fields) return client.payload("macp.modes.decision.v1." .. name .. "Payload", fields) end

local PROPOSAL = payload("Proposal", { proposal_id = "p1", option = "A" })

-- code = { token, envelope(id), how the stream ends (nil: inline, and it goes on), prepare(rig, id) }
local REGISTRY = {
  UNSUPPORTED_PROTOCOL_VERSION = { "ann", function(id) return { session_id = id, macp_version = "2.0" } end },
  INVALID_ENVELOPE = { "ann", function(id)
    return { session_id = id, message_type = "Vote", payload = payload("Vote", { proposal_id = "x", vote = "REJECT" }) }
  end },
  INVALID_SESSION_ID = { "boss", function() return client.start_envelope("short") end },
  MODE_NOT_SUPPORTED = { "boss", function()
    return client.start_envelope(crypto.uuid4(), {}, { mode = "ext.none.v1" })
  end },
  UNAUTHENTICATED = { "ann", function(id) return { session_id = id, sender = "bob", payload = PROPOSAL } end,
    S.UNAUTHENTICATED },
  FORBIDDEN = { "eve", function(id) return { session_id = id, payload = PROPOSAL } end },
  POLICY_DENIED = { "boss", function(id)
    return { session_id = id, message_type = "Commitment", payload = client.payload("macp.v1.CommitmentPayload", {
      commitment_id = "c", action = "go", authority_scope = "s", reason = "r", mode_version = "1.0.0",
      configuration_version = "config.default", policy_version = "policy.strict", outcome_positive = true }) }
  end },
  SESSION_NOT_FOUND = { "ann", function() return { session_id = crypto.uuid4(), payload = PROPOSAL } end },
  UNKNOWN_POLICY_VERSION = { "boss", function()
    return client.start_envelope(crypto.uuid4(), { policy_version = "policy.none" })
  end },
  SESSION_ALREADY_EXISTS = { "boss", function(id) return client.start_envelope(id, {}, { message_id = "other" }) end },
  SESSION_NOT_OPEN = { "ann", function(id) return { session_id = id, payload = PROPOSAL } end, nil, function(rig, id)
    assert(rig:call("boss", "SuspendSession", { session_id = id }))
  end },
  PAYLOAD_TOO_LARGE = { "ann", function(id) return { session_id = id, payload = ("x"):rep(2049) } end },
  RATE_LIMITED = { "one", function() return client.start_envelope(crypto.uuid4()) end },
  INVALID_POLICY_DEFINITION = { "boss", function()
    return client.start_envelope(crypto.uuid4(), { policy_version = "policy.of.task" })
  end },
  INTERNAL_ERROR = { "ann", function(id)
    local vote = payload("Vote", { proposal_id = "p0", vote = "REJECT" })
    return { session_id = id, message_type = "Vote", payload = vote }
  end, S.INTERNAL, function()
    sys.fault("journal.fsync", "fail")
  end, function() sys.fault("journal.fsync") end },
}
local NEVER_SENT = { DUPLICATE_MESSAGE = true } -- told as ok and duplicate

describe("every answer of the runtime", function()
  local rig, id

  setup(function()
    local dir = assert(fs.temp_dir("macp-answers-"))
    rig = assert(client.start({ env = ENV, dir = dir }))
    local strict = { policy_id = "policy.strict", mode = "macp.mode.decision.v1", schema_version = 3,
      rules = '{"voting":{"algorithm":"unanimous"}}' }
    local other = { policy_id = "policy.of.task", mode = "macp.mode.task.v1", schema_version = 1, rules = "{}" }
    for _, policy in ipairs({ strict, other }) do
      local reply = assert(rig:call("boss", "RegisterPolicy", { policy_descriptor = policy }))
      assert.is_true(reply.ok, reply.error)
    end
  end)
  teardown(function() rig:destroy() end)

  before_each(function()
    id = crypto.uuid4()
    assert.is_true(rig:send("boss", client.start_envelope(id, { policy_version = "policy.strict" })).ok)
    assert.is_true(rig:send("ann", client.envelope({ session_id = id, message_id = "p0",
      payload = payload("Proposal", { proposal_id = "p0", option = "A" }) })).ok)
    local reject = payload("Vote", { proposal_id = "p0", vote = "REJECT" })
    assert.is_true(rig:send("bob", client.envelope({ session_id = id, message_type = "Vote", message_id = "v0",
      payload = reject })).ok)
  end)

  it("is in one of the tables: every RPC, every code", function()
    local missing = {}
    for _, method in ipairs(messages.methods()) do
      if not ANSWERS[method] and not STREAMS[method] then missing[#missing + 1] = method end
    end
    for code in pairs(codes.CODES) do
      if not REGISTRY[code] and not NEVER_SENT[code] then missing[#missing + 1] = code end
    end
    assert.same({}, missing)
    assert.equal(24, #messages.methods())
  end)

  for method, cases in pairs(ANSWERS) do
    for _, case in ipairs(cases) do
      it(method .. ": " .. case[1], function()
        local reply, err = rig:call(case[2] or nil, method, fill(case[3], id))
        assert.equal(case[4], reply and S.OK or err.status, err and err.message)
        if err then assert.is_true(#err.message > 0) end
        local expected = case[5]
        if type(expected) == "string" then
          assert.same({ false, expected, 0 }, { reply.ack.ok, reply.ack.error.code, reply.ack.session_state })
        elseif expected ~= nil then
          assert.equal(expected, reply.ok)
          assert.equal(not expected, #reply.error > 0)
        end
      end)
    end

    it(method .. ": bytes that are no request", function()
      local _, err = rig:call("boss", method, UNDECODABLE)
      assert.equal(S.INTERNAL, err.status)
      assert.truthy(err.message:find("does not decode", 1, true), err.message)
    end)
  end

  for method, cases in pairs(STREAMS) do
    for _, case in ipairs(cases) do
      it(method .. ": opened with " .. (case[1] or "no credential"), function()
        local stream = method == "StreamSession" and rig:stream(case[1] or nil) or rig:watch(case[1] or nil, method)
        if case[2] then
          local _, err = stream:read()
          assert.equal(case[2], err.status)
          return
        end
        for _ = 1, case[3] do assert(stream:read()) end
        stream:cancel()
      end)
    end
  end

  local function envelope_of(case)
    local envelope = case[2](id)
    if not envelope.message_type then envelope = client.envelope(envelope) end
    if envelope.macp_version == nil then envelope = client.envelope(envelope) end
    envelope.message_id = envelope.message_id == "m1" and crypto.uuid4() or envelope.message_id
    return envelope
  end

  local function check_problem(code, problem, envelope)
    assert.same({ code, envelope.session_id, envelope.message_id },
      { problem.code, problem.session_id, problem.message_id })
    assert.truthy(problem.message:find("^%u%a+: ."), problem.message)
    if code == "POLICY_DENIED" then
      local reasons = json.decode(problem.details).reasons
      assert.is_true(#reasons > 0 and #reasons[1] > 0)
    else
      assert.equal("", problem.details or "")
    end
  end

  for code, case in pairs(REGISTRY) do
    local prepare, restore = case[4] or function() end, case[5] or function() end
    if code ~= "INTERNAL_ERROR" or sys.fault then
      it(code .. " in an ack", function()
        local envelope = envelope_of(case)
        prepare(rig, id)
        local ack = rig:send(case[1], envelope)
        restore()
        assert.same({ false, false, 0 }, { ack.ok, ack.duplicate, ack.session_state })
        assert.same({ envelope.session_id, envelope.message_id }, { ack.session_id, ack.message_id })
        assert.is_true(ack.accepted_at_unix_ms > 1600000000000)
        check_problem(code, ack.error, envelope)
      end)

      it(code .. " on a stream", function()
        local envelope = envelope_of(case)
        local stream = rig:stream(case[1])
        prepare(rig, id)
        stream:write({ envelope = envelope })
        local response, err = stream:read()
        restore()
        if case[3] then
          assert.equal(case[3], err and err.status)
          return
        end
        check_problem(code, response.error, envelope)
        stream:write({ envelope = client.envelope({ macp_version = "3.0", session_id = envelope.session_id }) })
        assert.equal("UNSUPPORTED_PROTOCOL_VERSION", assert(stream:read()).error.code)
        stream:cancel()
      end)
    end
  end

  it("repeated messages are ok and duplicate, not DUPLICATE_MESSAGE", function()
    local ack = rig:send("ann", client.envelope({ session_id = id, message_id = "p0", payload = PROPOSAL }))
    assert.same({ true, true, 1 }, { ack.ok, ack.duplicate, ack.session_state })
  end)
end)
