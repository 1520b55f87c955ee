-- The wall clock jumps by hours, as after a bad synchronisation: what is recorded stays in order, nothing that is over
-- opens again, and a restart gives the same sessions.

local clock = require("macp.runtime.clock")
local control = require("macp.runtime.control")
local fakes = require("spec.support.runtime_fakes")
local lifecycle = require("macp.protocol.lifecycle")
local limits = require("macp.runtime.limits")
local records = require("macp.runtime.records")
local session_record = require("macp.runtime.session")

local ID, OTHER = "0f8fad5b-d9cb-469f-a165-70867728950e", "abcdefghijklmnopqrstuvwx"
local HOUR = 3600000

describe("a wall clock that jumps", function()
  local core, session, boss

  before_each(function()
    core, boss = fakes.core(), fakes.identity("boss")
    assert(core:start(ID, { ttl_ms = 4 * HOUR }))
    session = core.sessions:find(ID)
  end)

  -- Times of acceptance in the order of the records.
  local function recorded_times()
    core.log:wait(session.lsn)
    local times = {}
    for i, bytes in ipairs(assert(core.journal:read(ID, 1, 100))) do
      times[i] = assert(records.decode(bytes)).received_at_ms
    end
    return times
  end

  local function expect_same_after_restart()
    core.log:wait(session.lsn)
    local fresh = core:restart()
    local again = fresh.sessions:find(ID)
    assert.same(session_record.metadata(session), session_record.metadata(again))
    assert.same({ session.expires_at, session.suspended_total, session.last_at },
      { again.expires_at, again.suspended_total, again.last_at })
    return fresh, again
  end

  it("backwards lets no record be older than the one before it, and moves no deadline", function()
    local deadline = session.expires_at
    local first = assert(core:send(ID, "ann", "Say", "m1")).accepted_at
    core.now = core.now - 5 * HOUR
    for i = 2, 4 do assert.equal(first, assert(core:send(ID, "ann", "Say", "m" .. i)).accepted_at) end
    core.now = core.now + 5 * HOUR + 7
    assert.equal(first + 7, assert(core:send(ID, "ann", "Say", "m5")).accepted_at)
    assert.equal(deadline, session.expires_at)
    local times = recorded_times()
    for i = 2, #times do assert.is_true(times[i] >= times[i - 1]) end
    expect_same_after_restart()
  end)

  it("backwards still knows what was accepted, and when", function()
    local at = assert(core:send(ID, "ann", "Say", "m1")).accepted_at
    core.now = core.now - 5 * HOUR
    local again = assert(core:send(ID, "ann", "Say", "m1"))
    assert.same({ true, at }, { again.duplicate, again.accepted_at })
    again = assert(core:start(ID, { ttl_ms = 4 * HOUR }))
    assert.same({ true, at }, { again.duplicate, again.accepted_at })
  end)

  it("backwards during a suspension banks nothing, and the session goes on", function()
    local deadline = session.expires_at
    assert(control.suspend(core.kernel, session, boss, ""))
    core.now = core.now - 5 * HOUR
    assert.equal(lifecycle.OPEN, assert(control.resume(core.kernel, session, boss, "")).state)
    assert.same({ deadline, 0 }, { session.expires_at, session.suspended_total })
    expect_same_after_restart()
  end)

  it("forwards ends what is over; a jump back does not open it again", function()
    core.now = core.now + 5 * HOUR
    local _, code = core:send(ID, "ann", "Say", "m1")
    assert.equal("SESSION_NOT_OPEN", code)
    assert.equal(lifecycle.EXPIRED, session.state)
    core.now = core.now - 5 * HOUR
    _, code = core:send(ID, "ann", "Say", "m2")
    assert.equal("SESSION_NOT_OPEN", code)
    local fresh, again = expect_same_after_restart()
    assert.equal(lifecycle.EXPIRED, again.state)
    assert.is_true(fresh.sessions:load_ids(again))
    _, code = fresh:send(ID, "ann", "Say", "m3")
    assert.equal("SESSION_NOT_OPEN", code)
  end)

  it("forwards and back leaves a session with time left open, with the deadline of its start", function()
    local deadline = session.expires_at
    core.now = core.now + 3 * HOUR
    assert(core:send(ID, "ann", "Say", "m1"))
    core.now = core.now - 3 * HOUR
    assert(core:send(ID, "ann", "Say", "m2"))
    assert.same({ lifecycle.OPEN, deadline }, { session.state, session.expires_at })
    expect_same_after_restart()
    core.now = deadline + 1
    local _, code = core:send(ID, "ann", "Say", "m3")
    assert.equal("SESSION_NOT_OPEN", code)
  end)

  it("forwards past the cap ends a suspended session", function()
    assert(control.suspend(core.kernel, session, boss, ""))
    core.now = core.now + session.max_suspend_ms + HOUR
    assert(core.kernel:observe(session, core.now))
    assert.equal(lifecycle.EXPIRED, session.state)
    expect_same_after_restart()
  end)

  it("gives a new session the deadline of the clock as it is, and a start from before it is not trusted", function()
    local before = core.now
    core.now = core.now - 5 * HOUR
    assert(core:start(OTHER, { ttl_ms = HOUR }, { timestamp_unix_ms = before }))
    assert.equal(core.now + HOUR, core.sessions:find(OTHER).expires_at)
  end)

  it("fires a timer of the mode once, at a time that is not before the message that set it", function()
    assert(core:send(ID, "ann", "Arm", "m1", "600000"))
    core.now = core.now - 5 * HOUR
    assert(core:send(ID, "ann", "Say", "m2"))
    local ordinals = session.ordinals
    core.now = core.now + 6 * HOUR
    assert(core.kernel:observe(session, core.now))
    assert.equal(ordinals + 1, session.ordinals)
    core.now = core.now - 6 * HOUR
    assert(core.kernel:observe(session, math.max(core.now, session.last_at)))
    assert.equal(ordinals + 1, session.ordinals)
    local times = recorded_times()
    for i = 2, #times do assert.is_true(times[i] >= times[i - 1]) end
    expect_same_after_restart()
  end)

  it("backwards deletes no finished session early, and does not let a limit of a minute go", function()
    local asked, mono = nil, 0
    local limiter = limits.new(1, function() return mono end)
    local cleaner = clock.new({ sessions = core.sessions, kernel = core.kernel, journal = core.journal,
      endings = { collect = function(_, before) asked = before end }, limiters = { limiter },
      now_ms = function() return core.now end, disk_retention_ms = HOUR })
    core.now = core.now - 5 * HOUR
    cleaner:clean_up()
    assert.equal(core.now - HOUR, asked)
    assert.is_true(limiter:take("ann"))
    core.now = core.now + 9 * HOUR -- the wall is no clock for limits
    assert.is_false(limiter:take("ann"))
    mono = 61000
    assert.is_true(limiter:take("ann"))
  end)
end)
