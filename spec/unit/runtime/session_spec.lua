local lifecycle = require("macp.protocol.lifecycle")
local session_record = require("macp.runtime.session")

local function new_session(changes)
  local start = {
    id = "s1", mode = "ext.m.v1", initiator = "boss", started_at = 1000, policy = { policy_id = "policy.default" },
    payload = {
      participants = { "ann", "bob" }, configuration_version = "cfg", context_id = "ctx", ttl_ms = 5000,
      extensions = { zeta = "z", alpha = "a" },
    },
    bindings = {
      mode_version = "1.0.0", mode_revision = "sha256:aa", expires_at_ms = 6000, max_suspend_ms = 1000,
    },
  }
  for key, value in pairs(changes or {}) do start[key] = value end
  return session_record.new(start)
end

describe("session clock", function()
  it("runs with wall time while the session is open", function()
    local session = new_session()
    assert.equal(0, session_record.time_at(session, 1000))
    assert.equal(250, session_record.time_at(session, 1250))
    assert.equal(1250, session_record.wall_of(session, 250))
  end)

  it("stands still while the session is suspended", function()
    local session = new_session()
    session_record.suspend(session, 1500)
    assert.equal(500, session_record.time_at(session, 1900))
    assert.equal(400, session_record.resume(session, 1900))
    assert.equal(600, session_record.time_at(session, 2000))
    assert.equal(2000, session_record.wall_of(session, 600))
  end)

  it("moves the deadline by what the suspension lasted", function()
    local session = new_session()
    session_record.suspend(session, 1500)
    session_record.resume(session, 1900)
    assert.equal(6400, session.expires_at)
    assert.equal(lifecycle.OPEN, session.state)
  end)

  it("expires on resume past the cap of all suspensions together", function()
    local session = new_session()
    session_record.suspend(session, 1500)
    session_record.resume(session, 2100)
    session_record.suspend(session, 3000)
    session_record.resume(session, 3401)
    assert.equal(lifecycle.EXPIRED, session.state)
    assert.equal(6600, session.expires_at)
  end)
end)

describe("session deadline", function()
  it("is still in time at the deadline itself", function()
    local session = new_session()
    assert.is_false(session_record.is_overdue(session, 6000))
    assert.is_true(session_record.is_overdue(session, 6001))
    assert.equal(6001, session_record.next_event_at(session))
  end)

  it("is the suspension cap while suspended", function()
    local session = new_session()
    session_record.suspend(session, 1500)
    assert.is_false(session_record.is_overdue(session, 2500))
    assert.is_true(session_record.is_overdue(session, 2501))
    assert.equal(2501, session_record.next_event_at(session))
  end)

  it("comes after an earlier timer of the mode", function()
    local session = new_session()
    session.due = 300
    assert.equal(1300, session_record.next_event_at(session))
  end)
end)

describe("session metadata", function()
  it("lists activity in participant order, then others by first message", function()
    local session = new_session()
    session_record.count(session, "boss", 1100)
    session_record.count(session, "bob", 1200)
    session_record.count(session, "ann", 1300)
    session_record.count(session, "bob", 1400)
    local metadata = session_record.metadata(session)
    assert.same({
      { participant_id = "ann", last_message_at_unix_ms = 1300, message_count = 1 },
      { participant_id = "bob", last_message_at_unix_ms = 1400, message_count = 2 },
      { participant_id = "boss", last_message_at_unix_ms = 1100, message_count = 1 },
    }, metadata.participant_activity)
    assert.same({ "alpha", "zeta" }, metadata.extension_keys)
    assert.equal("policy.default", metadata.policy_version)
  end)

  it("may be read by initiator, participants and observers", function()
    local session = new_session()
    for sender, expected in pairs({ boss = true, ann = true, eve = false }) do
      assert.equal(expected, session_record.may_read(session, { sender = sender, observer = false }))
    end
    assert.is_true(session_record.may_read(session, { sender = "eve", observer = true }))
  end)
end)

describe("journal index of an ordinal", function()
  it("skips records that take no ordinal", function()
    local session = new_session()
    session.skips = { 3, 4, 7 }
    local found = {}
    for ordinal = 1, 5 do found[ordinal] = session_record.index_of(session, ordinal) end
    assert.same({ 1, 2, 5, 6, 8 }, found)
  end)
end)

describe("what sessions share", function()
  it("cannot be changed through one of them", function()
    local function new()
      return session_record.new({ id = "a", mode = "m", initiator = "i", policy = {}, started_at = 0,
        payload = { participants = {}, extensions = {}, context_id = "", ttl_ms = 1 },
        bindings = { expires_at_ms = 1, max_suspend_ms = 1 } })
    end
    local one, other = new(), new()
    assert.has_error(function() one.skips[1] = 5 end)
    session_record.skip(one, 5)
    session_record.count(one, "stranger", 7)
    assert.same({ { 5 }, { "stranger" }, {}, {} }, { one.skips, one.others, other.skips, other.others })
  end)
end)
