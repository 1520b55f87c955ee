-- Acceptance: time to live; cancel, suspend, resume; metadata.

local acceptance = require("spec.support.acceptance")
local client = require("spec.support.runtime_client")
local crypto = require("host.crypto")
local rpc = require("host.rpc")
local task = require("host.task")

local eventually = require("spec.support.eventually")

local ANN, EVE = "agent://ann", "agent://eve"
local OPEN, EXPIRED, SUSPENDED, CANCELLED = 1, 3, 4, 5

describe("acceptance: the life of a session", function()
  local at

  setup(function() at = acceptance.start() end)
  teardown(function() at:stop() end)

  local function propose(session, by)
    return session:send(by or ANN, "Proposal", { proposal_id = crypto.uuid4(), option = "o" })
  end

  local function not_open(ack)
    assert.is_false(ack.ok)
    assert.equal("SESSION_NOT_OPEN", ack.error.code)
  end

  it("ends with its ttl at the latest 5 s later", function()
    local session = at:session({ mode = "decision", fields = { ttl_ms = 100 } })
    eventually(function() return not propose(session).ok end, 5000)
    not_open(propose(session))
    assert.equal(EXPIRED, session:metadata().state)
  end)

  it("goes on inside its ttl", function()
    local session = at:session({ mode = "decision", fields = { ttl_ms = 30000 } })
    assert.is_true(propose(session).ok)
    assert.equal(OPEN, session:metadata().state)
  end)

  it("is cancelled by its initiator", function()
    local session = at:session({ mode = "decision" })
    local ack, err = session:control(ANN, "CancelSession")
    assert.is_true(ack == nil and err.status == rpc.status.PERMISSION_DENIED)
    ack = session:control(session.by, "CancelSession")
    assert.same({ true, CANCELLED }, { ack.ok, ack.session_state })
    assert.equal(CANCELLED, session:metadata().state)
    not_open(propose(session))
  end)

  it("has ended when it is cancelled after its ttl: ok, and expired", function()
    local session = at:session({ mode = "decision", fields = { ttl_ms = 1 } })
    task.sleep(20)
    local ack = session:control(session.by, "CancelSession")
    assert.same({ true, EXPIRED }, { ack.ok, ack.session_state })
  end)

  it("is suspended and resumed by its initiator", function()
    local session = at:session({ mode = "decision" })
    local ack, err = session:control(ANN, "SuspendSession")
    assert.is_true(ack == nil and err.status == rpc.status.PERMISSION_DENIED)
    ack = session:control(session.by, "SuspendSession")
    assert.same({ true, SUSPENDED }, { ack.ok, ack.session_state })
    assert.equal(SUSPENDED, session:metadata().state)
    not_open(propose(session))
    ack = session:control(session.by, "ResumeSession")
    assert.same({ true, OPEN }, { ack.ok, ack.session_state })
    assert.equal(OPEN, session:metadata().state)
    assert.is_true(propose(session).ok)
    not_open(session:control(session.by, "ResumeSession"))
  end)

  it("may be cancelled while it is suspended", function()
    local session = at:session({ mode = "decision" })
    assert.is_true(session:control(session.by, "SuspendSession").ok)
    assert.equal(CANCELLED, session:control(session.by, "CancelSession").session_state)
  end)

  for _, method in ipairs({ "CancelSession", "SuspendSession", "ResumeSession", "GetSession" }) do
    it("is needed for " .. method, function()
      assert.equal(rpc.status.NOT_FOUND, (at:ask(ANN, method, { session_id = crypto.uuid4() })))
    end)
  end

  it("W28: does not outlast the cap of its suspension, also when nobody asks", function()
    local watch = at:follow(ANN, "WatchSessions")
    local session = at:session({ mode = "decision", fields = { max_suspend_ms = 100 } })
    assert.is_true(session:control(session.by, "SuspendSession").ok)
    eventually(function()
      for _, response in ipairs(watch.seen) do
        local event = response.event
        if event.session.session_id == session.id and event.event_type == EXPIRED then return true end
      end
    end, 10000, "the event of its expiry")
    watch.cancel()
    local ack = session:control(session.by, "ResumeSession")
    assert.same({ false, "SESSION_NOT_OPEN" }, { ack.ok, ack.error and ack.error.code })
  end)

  it("W27: is measured by the runtime's clock when the sender's is wrong", function()
    for _, skew in ipairs({ -86400000, 86400000 }) do
      local session = at:new_session({ mode = "decision", changes = { timestamp_unix_ms = skew
        + require("host.sys").now_ms() } })
      local ack = session:start()
      if ack.ok then
        local metadata = session:metadata()
        local life = metadata.expires_at_unix_ms - metadata.started_at_unix_ms
        assert.is_true(life > 0 and life <= 120000, "it would live for " .. life .. " ms")
        assert.is_true(propose(session).ok)
      else
        assert.equal("INVALID_ENVELOPE", ack.error.code)
      end
    end
  end)

  it("is told to its initiator and not to strangers", function()
    local session = at:session({ mode = "decision", fields = { context_id = "ctx" } })
    local metadata = session:metadata()
    assert.same({ session.id, "macp.mode.decision.v1", OPEN, session.by, "ctx" },
      { metadata.session_id, metadata.mode, metadata.state, metadata.initiator, metadata.context_id })
    assert.equal(rpc.status.PERMISSION_DENIED, (at:ask(EVE, "GetSession", { session_id = session.id })))
    assert.equal(rpc.status.UNAUTHENTICATED, (at:ask(nil, "GetSession", { session_id = session.id })))
  end)
end)

describe("acceptance: signals", function()
  local at

  setup(function() at = acceptance.start() end)
  teardown(function() at:stop() end)

  local function signal(fields, id)
    return at.rig:send(ANN, client.envelope({ mode = "", message_type = "Signal", message_id = id or crypto.uuid4(),
      payload = client.payload("macp.v1.SignalPayload", fields) }))
  end

  it("are acked and leave the session they speak of as it was", function()
    local session = at:session({ mode = "decision" })
    local before = session:metadata()
    assert.is_true(signal({ signal_type = "ping", correlation_session_id = session.id }).ok)
    assert.same(before, session:metadata())
  end)

  it("reach a watcher with id, type, authenticated sender and payload", function()
    local watch = at:follow("agent://bob", "WatchSignals")
    local id = crypto.uuid4()
    -- Only what comes after the subscription is delivered, and only the server knows when that was.
    local first = crypto.uuid4()
    eventually(function()
      assert.is_true(signal({ signal_type = "probe", data = first }).ok)
      return watch.seen[1]
    end, 5000)
    assert.is_true(signal({ signal_type = "ping", data = "\0\1\2", confidence = 0.5 }, id).ok)
    local found = eventually(function()
      for _, response in ipairs(watch.seen) do
        if response.envelope.message_id == id then return response.envelope end
      end
    end, 5000)
    watch.cancel()
    assert.same({ "Signal", ANN, client.payload("macp.v1.SignalPayload",
      { signal_type = "ping", data = "\0\1\2", confidence = 0.5 }) },
      { found.message_type, found.sender, found.payload })
  end)

  it("W30: are not made of the progress of a session by those outside it", function()
    local session = at:session({ mode = "decision" })
    local watch = at:follow("agent://bob", "WatchSignals")
    eventually(function()
      signal({ signal_type = "probe" })
      return watch.seen[1]
    end, 5000)
    local payload = client.payload("macp.v1.ProgressPayload", { progress = 0.5, total = 1 })
    local foreign, unknown = crypto.uuid4(), crypto.uuid4()
    assert.equal("FORBIDDEN", session:send(EVE, "Progress", payload, foreign).error.code)
    assert.equal("SESSION_NOT_FOUND", at:new_session({ mode = "decision" })
      :send(ANN, "Progress", payload, unknown).error.code)
    local own = crypto.uuid4()
    assert.is_true(session:send(ANN, "Progress", payload, own).ok)
    local seen = {}
    eventually(function()
      for _, response in ipairs(watch.seen) do seen[response.envelope.message_id] = true end
      return seen[own]
    end, 5000)
    watch.cancel()
    assert.same({}, { seen[foreign], seen[unknown] })
  end)

  it("cannot be watched without credentials", function()
    local _, err = at:first(nil, "WatchSignals")
    assert.equal(rpc.status.UNAUTHENTICATED, err.status)
  end)
end)
