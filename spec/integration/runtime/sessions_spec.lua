local client = require("spec.support.runtime_client")

local crypto = require("host.crypto")

local TOKENS = [=[[{"token":"boss","sender":"boss"},{"token":"ann","sender":"ann"},{"token":"bob","sender":"bob"},
  {"token":"eve","sender":"eve"},{"token":"watch","sender":"watcher","is_observer":true}]]=]

describe("sessions", function()
  local rig

  before_each(function() rig = assert(client.start({ env = { MACP_AUTH_TOKENS_JSON = TOKENS } })) end)
  after_each(function() rig:destroy() end)

  local function start(id, fields)
    id = id or crypto.uuid4()
    local ack = rig:send("boss", client.start_envelope(id, fields))
    assert.is_true(ack.ok)
    return id
  end

  local function status_of(token, method, request)
    local response, err = rig:call(token, method, request)
    return response and 0 or err.status
  end

  it("are shown to initiator, participants and observers", function()
    local id = start(nil, { context_id = "ctx", extensions = { b = "2", a = "1" } })
    for token, expected in pairs({ boss = 0, ann = 0, watch = 0, eve = 7, nobody = 16 }) do
      assert.equal(expected, status_of(token, "GetSession", { session_id = id }))
    end
    for _, unknown in ipairs({ "unknown", "", ("x"):rep(300), "../../x" }) do
      assert.equal(5, status_of("boss", "GetSession", { session_id = unknown }))
    end
    local metadata = rig:call("ann", "GetSession", { session_id = id }).metadata
    assert.equal("ctx", metadata.context_id)
    assert.same({ "a", "b" }, metadata.extension_keys)
    assert.same({ "ann", "bob" }, metadata.participants)
  end)

  it("are listed in pages by id, each exactly once", function()
    local expected = {}
    for i = 1, 7 do expected[i] = start(string.format("session-number-%08d-x", i)) end
    local seen, token = {}, ""
    repeat
      local page = assert(rig:call("eve", "ListSessions", { page_size = 3, page_token = token }))
      for _, session in ipairs(page.sessions) do seen[#seen + 1] = session.session_id end
      token = page.next_page_token
    until token == ""
    assert.same(expected, seen)
    assert.equal(7, #assert(rig:call("eve", "ListSessions", {})).sessions)
    assert.equal(3, status_of("eve", "ListSessions", { page_size = -1 }))
    for _, bad in ipairs({ "!!!", crypto.base64url_encode("v2:x"), crypto.base64url_encode("v1:"), ("A"):rep(1025) }) do
      assert.equal(3, status_of("eve", "ListSessions", { page_token = bad }))
    end
    assert.equal(16, status_of(nil, "ListSessions", {}))
  end)

  it("are cancelled by their initiator only, and once", function()
    local id = start()
    assert.equal(7, status_of("ann", "CancelSession", { session_id = id }))
    assert.equal(5, status_of("boss", "CancelSession", { session_id = "unknown" }))
    assert.equal(16, status_of(nil, "CancelSession", { session_id = id }))
    local ack = rig:call("boss", "CancelSession", { session_id = id, reason = "over" }).ack
    assert.same({ true, 5, "" }, { ack.ok, ack.session_state, ack.message_id })
    ack = rig:call("boss", "CancelSession", { session_id = id }).ack
    assert.same({ true, 5 }, { ack.ok, ack.session_state })
    local refused = rig:send("ann", client.envelope({ session_id = id }))
    assert.equal("SESSION_NOT_OPEN", refused.error.code)
  end)

  it("are suspended and resumed", function()
    local id = start()
    local before = rig:call("boss", "GetSession", { session_id = id }).metadata.expires_at_unix_ms
    assert.equal(4, rig:call("boss", "SuspendSession", { session_id = id }).ack.session_state)
    local again = rig:call("boss", "SuspendSession", { session_id = id }).ack
    assert.equal("SESSION_NOT_OPEN", again.error.code)
    assert.equal("SESSION_NOT_OPEN", rig:send("ann", client.envelope({ session_id = id })).error.code)
    require("host.task").sleep(20)
    assert.equal(1, rig:call("boss", "ResumeSession", { session_id = id }).ack.session_state)
    local metadata = rig:call("boss", "GetSession", { session_id = id }).metadata
    assert.is_true(metadata.expires_at_unix_ms >= before + 15)
  end)

  it("take any cap of suspensions, and keep one beyond all time over a restart", function()
    local id = start(nil, { max_suspend_ms = "9223372036854775807" })
    for _ = 1, 2 do
      assert.equal(4, rig:call("boss", "SuspendSession", { session_id = id }).ack.session_state)
      rig = rig:again()
      assert.equal(4, rig:call("boss", "GetSession", { session_id = id }).metadata.state)
      assert.equal(1, rig:call("boss", "ResumeSession", { session_id = id }).ack.session_state)
    end
  end)

  it("W28: expire when a suspension outlasts its cap, without being asked", function()
    local id = start(nil, { max_suspend_ms = 50 })
    rig:call("boss", "SuspendSession", { session_id = id })
    require("spec.support.eventually")(function() return rig.role.sessions.by_id[id].state == 3 end, 2000)
  end)

  it("are announced once each, those before and those after the watch began", function()
    local first = start()
    local watch = rig:watch("eve", "WatchSessions")
    local event = assert(watch:read()).event
    assert.same({ 1, first, 1 }, { event.event_type, event.session.session_id, event.session.state })
    assert.equal(event.session.started_at_unix_ms, event.observed_at_unix_ms)
    local second = start()
    rig:call("boss", "SuspendSession", { session_id = second })
    rig:call("boss", "ResumeSession", { session_id = second })
    rig:call("boss", "CancelSession", { session_id = first })
    local seen = {}
    for i = 1, 4 do
      event = assert(watch:read()).event
      seen[i] = { event.event_type, event.session.session_id, event.session.state }
    end
    assert.same({ { 1, second, 1 }, { 4, second, 4 }, { 5, second, 1 }, { 6, first, 5 } }, seen)
    watch:cancel()
  end)

  it("need a credential to be watched", function()
    local watch = rig:watch(nil, "WatchSessions")
    local _, err = watch:read()
    assert.equal(16, err.status)
  end)
end)

describe("ambient messages", function()
  local rig, id

  setup(function()
    rig = assert(client.start())
    id = crypto.uuid4()
    assert.is_true(rig:send("boss", client.start_envelope(id)).ok)
  end)
  teardown(function() rig:destroy() end)

  local function signal(fields)
    local envelope = client.envelope({ mode = "", message_type = "Signal", session_id = "", message_id = "s1" })
    for key, value in pairs(fields or {}) do envelope[key] = value end
    return rig:send("ann", envelope)
  end

  it("reach those who watch, with the authenticated sender, and touch no session", function()
    local before = rig:call("boss", "GetSession", { session_id = id }).metadata
    local watch = rig:watch("bob", "WatchSignals")
    local payload = client.payload("macp.v1.SignalPayload",
      { signal_type = "ping", data = "x", correlation_session_id = id })
    require("spec.support.eventually")(function() return next(rig.role.watches.signal_watchers) ~= nil end, 2000)
    local ack = signal({ payload = payload })
    assert.same({ true, 1, false }, { ack.ok, ack.session_state, ack.duplicate })
    local envelope = assert(watch:read()).envelope
    assert.same({ "s1", "Signal", "ann", payload },
      { envelope.message_id, envelope.message_type, envelope.sender, envelope.payload })
    assert.same(before, rig:call("boss", "GetSession", { session_id = id }).metadata)
    ack = rig:send("ann", client.envelope({ session_id = id, message_type = "Progress", message_id = "g1" }))
    assert.is_true(ack.ok)
    assert.equal("g1", assert(watch:read()).envelope.message_id)
    watch:cancel()
  end)

  local REFUSALS = {
    { "a signal of a session", "INVALID_ENVELOPE", { session_id = "x" } },
    { "a signal with a mode", "INVALID_ENVELOPE", { mode = "m" } },
    { "a blank signal type", "INVALID_ENVELOPE",
      { payload = client.payload("macp.v1.SignalPayload", { signal_type = " ", data = "x" }) } },
    { "an undecodable payload", "INVALID_ENVELOPE", { payload = "\255" } },
    { "progress of an unknown session", "SESSION_NOT_FOUND",
      { message_type = "Progress", session_id = "unknown", mode = "m" } },
  }
  for _, case in ipairs(REFUSALS) do
    it("are refused: " .. case[1], function() assert.equal(case[2], signal(case[3]).error.code) end)
  end

  it("W30: are refused when an outsider reports progress of a session", function()
    local ack = rig:send("eve", client.envelope({ session_id = id, message_type = "Progress", message_id = "g" }))
    assert.equal("FORBIDDEN", ack.error.code)
  end)

  it("need a credential to be watched", function()
    local _, err = rig:watch(nil, "WatchSignals"):read()
    assert.equal(16, err.status)
  end)
end)
