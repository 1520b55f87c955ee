local standing = require("macp.plane.standing")

local OPEN, SUSPENDED, RESOLVED = 1, 4, 2

-- A bound run whose status follows what lifecycle does to it; changes holds every status it took.
local function bound_run(status)
  local run = { id = "r", status = status or "running", session = {}, changes = {}, seq = 0, kind = "rust" }
  local batch = { add = function() end, announce = function() end }
  run.writer = { owner = {}, open_for = function() return batch end }
  batch.ops = {}
  function run:has_ended() return self.status == "completed" end
  function run:emit(_, event_type) self.changes[#self.changes + 1] = event_type end
  return setmetatable(run, { __index = { tenant = "t", session_id = "s", cursor = 0 } })
end

local function hear(run, state, order)
  return standing.hear(run, { state = state, at_ms = order.at_ms, asked = order.asked, accepted = 5 })
end

describe("what is told about a session", function()
  it("counts by the runtime's time, not by arrival", function()
    local run = bound_run()
    assert.is_true(hear(run, SUSPENDED, { at_ms = 200 }))
    assert.equal("suspended", run.status)
    assert.is_false(hear(run, OPEN, { at_ms = 100 }))
    assert.equal("suspended", run.status)
    assert.is_true(hear(run, SUSPENDED, { at_ms = 150 })) -- no news
    assert.is_true(hear(run, OPEN, { at_ms = 300 }))
    assert.is_false(hear(run, SUSPENDED, { at_ms = 250 }))
    assert.equal("running", run.status)
    assert.same({ "run.suspended", "run.resumed" }, run.changes)
  end)

  it("without a time counts when it was asked for after everything that is known", function()
    local run = bound_run()
    local early = standing.moment()
    assert.is_true(hear(run, SUSPENDED, { at_ms = 100 }))
    assert.is_false(hear(run, OPEN, { asked = early }))
    assert.equal("suspended", run.status)
    local late = standing.moment()
    assert.is_true(hear(run, OPEN, { asked = late }))
    assert.equal("running", run.status)
    assert.is_false(hear(run, SUSPENDED, { asked = late })) -- the answers to one question contradict each other
    assert.is_true(hear(run, OPEN, { asked = late }))
  end)

  it("of the same time, but different, is uncertain", function()
    local run = bound_run()
    assert.is_true(hear(run, SUSPENDED, { at_ms = 100 }))
    assert.is_false(hear(run, OPEN, { at_ms = 100 }))
    assert.equal("suspended", run.status)
  end)

  it("keeps its place when an answer without a time comes between", function()
    local run = bound_run()
    assert.is_true(hear(run, SUSPENDED, { at_ms = 100 }))
    assert.is_true(hear(run, OPEN, { asked = standing.moment() }))
    assert.is_false(hear(run, SUSPENDED, { at_ms = 90 }))
    assert.equal("running", run.status)
    assert.is_true(hear(run, SUSPENDED, { at_ms = 110 }))
    assert.equal("suspended", run.status)
  end)

  it("before a run was loaded does not change what was stored", function()
    local run = bound_run("suspended")
    local before = standing.moment()
    standing.restored(run)
    assert.is_false(hear(run, OPEN, { asked = before }))
    assert.equal("suspended", run.status)
    assert.is_true(hear(run, OPEN, { asked = standing.moment() }))
    assert.equal("running", run.status)
  end)

  it("before a run is bound is kept until then", function()
    local run = bound_run("starting")
    run.session = nil
    local asked = standing.moment()
    assert.is_true(hear(run, SUSPENDED, { at_ms = 100 }))
    assert.equal("starting", run.status)
    run.session, run.status = {}, "running"
    assert.is_false(hear(run, OPEN, { asked = asked })) -- what it was bound with is older, perhaps
    assert.equal("suspended", run.status)
  end)

  it("of an end before a run is bound leaves nothing certain", function()
    local run = bound_run("starting")
    run.session = nil
    local asked = standing.moment()
    assert.is_true(hear(run, RESOLVED, { at_ms = 100 }))
    run.session, run.status = {}, "running"
    assert.is_false(hear(run, OPEN, { asked = asked }))
  end)

  it("that is final counts whenever it comes, and nothing counts afterwards", function()
    local run = bound_run()
    assert.is_true(hear(run, SUSPENDED, { at_ms = 200 }))
    assert.is_true(hear(run, RESOLVED, { at_ms = 100 }))
    assert.same({ "SESSION_STATE_RESOLVED", 5 }, { run.ending.state, run.ending.accepted })
    run.status = "completed"
    assert.is_true(hear(run, OPEN, { at_ms = 300 }))
    assert.equal("completed", run.status)
  end)

  it("in a state that nobody knows changes nothing", function()
    local run = bound_run()
    assert.is_true(hear(run, 17, { at_ms = 200 }))
    assert.is_true(hear(run, 0, { at_ms = 200 }))
    assert.is_nil(run.standing)
    assert.equal("running", run.status)
  end)

  it("moves the deadline forward only", function()
    local run = bound_run()
    standing.hear(run, { state = OPEN, at_ms = 2, expires_ms = 500 })
    standing.hear(run, { state = OPEN, at_ms = 1, expires_ms = 400 })
    assert.equal(500, run.session.expires_ms)
  end)
end)
