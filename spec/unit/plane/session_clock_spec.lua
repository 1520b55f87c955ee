-- Session time: without suspensions, never backwards.

local fold = require("macp.plane.projection.fold")
local projection = require("macp.plane.projection.state")
local session_clock = require("macp.plane.session_clock")

local function started(ms)
  local clock = session_clock.new()
  clock.started_ms = ms
  return clock
end

describe("session time", function()
  it("is what has passed since the start, without suspensions", function()
    local clock = started(1000)
    assert.same({ 500, 1500 }, { session_clock.tell(clock, 1500, 1500) })
    session_clock.suspend(clock, 2000)
    session_clock.resume(clock, 12000)
    assert.same({ 1500, 12500 }, { session_clock.tell(clock, 12500, 12500) })
    session_clock.suspend(clock, 13000)
    session_clock.suspend(clock, 13500)
    session_clock.resume(clock, 14000)
    session_clock.resume(clock, 15000)
    assert.same({ 3000, 15000 }, { session_clock.tell(clock, 15000, 15000) })
    assert.equal(12000, session_clock.base_ms(clock))
  end)

  it("stands still while the session is suspended", function()
    local clock = started(1000)
    session_clock.suspend(clock, 2000)
    assert.same({ 1000, 3000 }, { session_clock.tell(clock, 3000, 3000) })
    assert.same({ 1000, 4000 }, { session_clock.tell(clock, 0, 4000) })
  end)

  it("does not run backwards for a sender whose clock is behind the pause", function()
    local clock = started(1000)
    session_clock.tell(clock, 2000, 2000)
    session_clock.suspend(clock, 3000)
    session_clock.resume(clock, 9000)
    assert.same({ 2000, 9000 }, { session_clock.tell(clock, 2500, 9100) })
  end)

  it("starts with the first envelope when nobody says when the session did", function()
    local clock = session_clock.new()
    assert.same({ 0, 7000 }, { session_clock.tell(clock, 7000, 8000) })
    assert.same({ 1000, 8000 }, { session_clock.tell(clock, 0, 8000) })
  end)

  it("follows the events of a run and is stored with its projection", function()
    local state = projection.new("7d444840-9dc0-4dc5-9a3e-3f0a30d7a1c4")
    local function pause(seq, event_type, second, data)
      fold.apply(state, { seq = seq, type = event_type, ts = "1970-01-01T00:00:" .. second .. ".000Z",
        data = data or {} })
    end
    state.clock.started_ms = 0
    pause(1, "run.suspended", "10")
    pause(2, "session.state.changed", "11", { state = "SESSION_STATE_SUSPENDED" })
    pause(3, "session.state.changed", "15", { state = "SESSION_STATE_OPEN" })
    pause(4, "run.resumed", "16")
    assert.equal(5000, state.clock.suspended_ms)
    local loaded = assert(projection.load(state.run_id, projection.render(state), projection.internal(state)))
    assert.same(state.clock, loaded.clock)
    assert.equal(15000, (session_clock.tell(loaded.clock, 20000, 20000)))
  end)
end)
