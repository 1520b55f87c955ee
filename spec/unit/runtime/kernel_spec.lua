local fakes = require("spec.support.runtime_fakes")
local lifecycle = require("macp.protocol.lifecycle")
local control = require("macp.runtime.control")

local ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
local OTHER = "abcdefghijklmnopqrstuvwx"

local function states(core, id) return core.modes:get("macp.mode.talk.v1").states[id or ID] end

describe("session start", function()
  it("binds mode, policy and deadline and announces the session when durable", function()
    local core = fakes.core()
    core.journal.held = true
    local verdict = assert(core:start(ID))
    assert.equal(lifecycle.OPEN, verdict.state)
    assert.is_false(verdict.duplicate)
    local session = core.sessions:find(ID)
    assert.equal("policy.default", session.policy.policy_id)
    assert.equal(core.now + 60000, session.expires_at)
    assert.equal(7 * 86400000, session.max_suspend_ms)
    assert.same({}, core.events)
    core.journal:flush()
    core.log:advance()
    assert.equal(lifecycle.EVENT.CREATED, core.events[1].type)
    assert.equal(1, #core.published)
  end)

  local REFUSALS = {
    { "an upper-case UUID", "INVALID_SESSION_ID", id = ID:upper() },
    { "a short id", "INVALID_SESSION_ID", id = "short" },
    { "an unknown mode", "MODE_NOT_SUPPORTED", envelope = { mode = "ext.none.v1" } },
    { "an empty payload", "INVALID_ENVELOPE", envelope = { payload = "" } },
    { "bytes that do not decode", "INVALID_ENVELOPE", envelope = { payload = "\255\255" } },
    { "a blank mode version", "INVALID_ENVELOPE", payload = { mode_version = " " } },
    { "another mode version", "INVALID_ENVELOPE", payload = { mode_version = "2.0.0" } },
    { "a blank configuration version", "INVALID_ENVELOPE", payload = { configuration_version = "" } },
    { "a participant twice", "INVALID_ENVELOPE", payload = { participants = { "ann", "ann" } } },
    { "no ttl", "INVALID_ENVELOPE", payload = { ttl_ms = 0 } },
    { "a ttl of more than a day", "INVALID_ENVELOPE", payload = { ttl_ms = 86400001 } },
    { "a negative suspension cap", "INVALID_ENVELOPE", payload = { max_suspend_ms = -1 } },
    { "an unknown policy", "UNKNOWN_POLICY_VERSION", payload = { policy_version = "policy.none" } },
    { "a policy of another mode", "INVALID_POLICY_DEFINITION", payload = { policy_version = "policy.std.majority" } },
    { "what the mode refuses", "INVALID_ENVELOPE", payload = { intent = "refuse" } },
  }
  for _, case in ipairs(REFUSALS) do
    it("refuses " .. case[1] .. " without a trace", function()
      local core = fakes.core()
      local verdict, code = core:start(case.id or ID, case.payload, case.envelope)
      assert.is_nil(verdict)
      assert.equal(case[2], code)
      assert.equal(0, core.journal.appends)
      assert.equal(0, core.sessions.count)
      assert.is_nil(states(core))
      assert.equal(0, core.modes.pins)
    end)
  end

  it("lets a mode that is not strict omit versions and participants", function()
    local core = fakes.core()
    local verdict = core:start(ID, { mode_version = "", configuration_version = "", participants = {} },
      { mode = "ext.loose.v1" })
    assert.is_table(verdict)
    assert.equal("1.0.0", core.sessions:find(ID).mode_version)
  end)

  it("answers a repeated start of the same sender as duplicate, of others as taken", function()
    local core = fakes.core()
    local first = assert(core:start(ID)).accepted_at
    core.now = core.now + 5
    local verdict = assert(core:start(ID))
    assert.is_true(verdict.duplicate)
    assert.equal(first, verdict.accepted_at)
    local _, code = core:start(ID, nil, nil, fakes.identity("eve"))
    assert.equal("SESSION_ALREADY_EXISTS", code)
    _, code = core:start(ID, nil, { message_id = "another" })
    assert.equal("SESSION_ALREADY_EXISTS", code)
    assert.equal(1, core.journal.appends)
  end)

  it("W15: limits the open sessions of an identity and frees a place when one ends", function()
    local core, boss = fakes.core(), fakes.identity("boss", { max_open = 1 })
    assert(core:start(ID .. "x", nil, nil, fakes.identity("other"))) -- another's session takes no place
    assert(core:start(ID, nil, nil, boss))
    local _, code = core:start(OTHER, nil, nil, boss)
    assert.equal("RATE_LIMITED", code)
    assert.is_nil(states(core, OTHER))
    assert(control.cancel(core.kernel, core.sessions:find(ID), boss, "done"))
    assert(core:start(OTHER, nil, nil, boss))
  end)

  it("W27: takes the client's clock as the deadline's base only when it is credible", function()
    local core = fakes.core()
    assert(core:start(ID, nil, { timestamp_unix_ms = core.now - 1000 }))
    assert.equal(core.now + 59000, core.sessions:find(ID).expires_at)
    assert(core:start(OTHER, nil, { timestamp_unix_ms = core.now + 3600000 }))
    assert.equal(core.now + 60000, core.sessions:find(OTHER).expires_at)
    assert(core:start(OTHER .. "x", nil, { timestamp_unix_ms = core.now - 3600000 })) -- nor is it over at once
    assert.equal(core.now + 60000, core.sessions:find(OTHER .. "x").expires_at)
  end)
end)

describe("session message", function()
  local core

  before_each(function()
    core = fakes.core()
    assert(core:start(ID))
    core.log:wait(1)
  end)

  it("is accepted, counted and published in order", function()
    for i = 1, 3 do assert(core:send(ID, "ann", "Say", "m" .. i, "p" .. i)) end
    core.log:wait(core.sessions:find(ID).lsn)
    local session = core.sessions:find(ID)
    assert.equal(4, session.ordinals)
    assert.equal(4, #core.published)
    assert.equal(3, session.counts.ann)
  end)

  local REFUSALS = {
    { "of another mode", "INVALID_ENVELOPE", "ann", "Say", { mode = "ext.loose.v1" } },
    { "of an outsider", "FORBIDDEN", "eve", "Say" },
    { "of an unknown type", "INVALID_ENVELOPE", "ann", "Shout" },
    { "with a timer's id", "INVALID_ENVELOPE", "ann", "Say", { message_id = "timer:x" } },
    { "that policy denies", "POLICY_DENIED", "ann", "Deny" },
  }
  for _, case in ipairs(REFUSALS) do
    it("is refused when it is " .. case[1] .. ", and leaves no trace", function()
      local before, appends = #states(core).entries, core.journal.appends
      local verdict, code, text, details = core:send(ID, case[3], case[4], "m1", "", case[5])
      assert.is_nil(verdict)
      assert.equal(case[2], code)
      assert.is_string(text)
      if code == "POLICY_DENIED" then assert.same({ reasons = { "too few" } }, details) end
      assert.equal(before, #states(core).entries)
      assert.equal(appends, core.journal.appends)
      assert.is_nil(core.sessions:find(ID).ids.m1)
      assert(core:send(ID, "ann", "Say", "m1"))
    end)
  end

  it("is a duplicate the second time, on ended sessions too, with its first acceptance time", function()
    local at = assert(core:send(ID, "ann", "Say", "m1")).accepted_at
    core.now = core.now + 10
    local verdict = core:send(ID, "bob", "Say", "m1", "other payload")
    assert.is_true(verdict.duplicate)
    assert.equal(at, verdict.accepted_at)
    assert(core:send(ID, "boss", "Commitment", "c1", "done"))
    verdict = core:send(ID, "ann", "Say", "m1")
    assert.is_true(verdict.duplicate)
    assert.equal(lifecycle.RESOLVED, verdict.state)
  end)

  it("W29: does not tell outsiders whether an id was used", function()
    assert(core:send(ID, "ann", "Say", "m1"))
    local _, code = core:send(ID, "eve", "Say", "m1")
    assert.equal("FORBIDDEN", code)
  end)

  it("is refused after the session has resolved", function()
    local verdict = assert(core:send(ID, "boss", "Commitment", "c1", "done"))
    assert.equal(lifecycle.RESOLVED, verdict.state)
    local _, code = core:send(ID, "ann", "Say", "m1")
    assert.equal("SESSION_NOT_OPEN", code)
    assert.equal(0, core.modes.pins)
    assert.is_nil(states(core))
  end)

  it("is in time at the deadline, and ends the session after it", function()
    core.now = core.now + 60000
    assert(core:send(ID, "ann", "Say", "m1"))
    core.now = core.now + 1
    local _, code, text = core:send(ID, "ann", "Say", "m2")
    assert.equal("SESSION_NOT_OPEN", code)
    assert.truthy(text:find("TtlExpired", 1, true))
    core.log:wait(core.sessions:find(ID).lsn)
    assert.equal(lifecycle.EVENT.EXPIRED, core.events[2].type)
  end)

  it("finds the timers of the mode fired before it, at their own time", function()
    local began = core.now
    assert(core:send(ID, "ann", "Arm", "m1", "500"))
    core.now = core.now + 2000
    assert(core:send(ID, "ann", "Say", "m2"))
    assert.same({ "Arm|ann|500|0|0", "Ding|boss||500|1", "Say|ann||2000|0" }, states(core).entries)
    local session = core.sessions:find(ID)
    assert.equal(began + 500, session.ids["timer:ding:500"])
    assert.equal(4, session.ordinals)
    assert.is_nil(session.counts.boss)
  end)

  it("fires a timer that was due before the deadline even when nobody looked", function()
    assert(core:send(ID, "ann", "Arm", "m1", "59000"))
    core.now = core.now + 120000
    local _, code = core:send(ID, "ann", "Say", "m2")
    assert.equal("SESSION_NOT_OPEN", code)
    assert.is_number(core.sessions:find(ID).ids["timer:ding:59000"])
  end)

  it("that a faulty script half applied leaves the state of before", function()
    assert(core:send(ID, "ann", "Say", "m1", "x"))
    local _, code = core:send(ID, "ann", "Bug", "m2")
    assert.equal("INTERNAL_ERROR", code)
    assert(core:send(ID, "ann", "Say", "m3", "y"))
    assert.same({ "Say|ann|x|0|0", "Say|ann|y|0|0" }, states(core).entries)
    assert.is_nil(core.sessions:find(ID).ids.m2)
  end)
end)

describe("control", function()
  local core, session, boss

  before_each(function()
    core, boss = fakes.core(), fakes.identity("boss")
    assert(core:start(ID))
    session = core.sessions:find(ID)
  end)

  it("suspends, refuses messages, resumes and moves the deadline", function()
    local deadline = session.expires_at
    assert.equal(lifecycle.SUSPENDED, control.suspend(core.kernel, session, boss, "lunch").state)
    local _, code = core:send(ID, "ann", "Say", "m1")
    assert.equal("SESSION_NOT_OPEN", code)
    core.now = core.now + 700
    assert.equal(lifecycle.OPEN, control.resume(core.kernel, session, boss, "back").state)
    assert.equal(deadline + 700, session.expires_at)
    assert(core:send(ID, "ann", "Say", "m1"))
    assert.same({ "Say|ann||0|0" }, states(core).entries)
  end)

  it("expires a suspension that is longer than the cap", function()
    control.suspend(core.kernel, session, boss, "")
    core.now = core.now + session.max_suspend_ms + 1
    local _, code = control.resume(core.kernel, session, boss, "")
    assert.equal("SESSION_NOT_OPEN", code)
    assert.equal(lifecycle.EXPIRED, session.state)
  end)

  it("cancels once and leaves an ended session as it is", function()
    assert.equal(lifecycle.CANCELLED, control.cancel(core.kernel, session, boss, "x").state)
    local appends = core.journal.appends
    assert.equal(lifecycle.CANCELLED, control.cancel(core.kernel, session, boss, "y").state)
    assert.equal(appends, core.journal.appends)
  end)

  it("belongs to the initiator, or to whom the policy names", function()
    assert.is_true(control.has_authority(session, boss))
    assert.is_false(control.has_authority(session, fakes.identity("ann")))
    session.policy = { rules = { commitment = { authority = "any_participant" } } }
    assert.is_true(control.has_authority(session, fakes.identity("ann")))
    assert.is_false(control.has_authority(session, fakes.identity("eve")))
  end)
end)

describe("a quarantined session", function()
  it("refuses messages and still ends at its deadline", function()
    local core = fakes.core()
    assert(core:start(ID))
    core.log:wait(1)
    local modes = fakes.modes()
    modes.lost = true
    local fresh = core:restart({ modes = modes })
    local session = fresh.sessions:find(ID)
    assert.equal(session, (fresh.sessions.deadlines:first()))
    local _, code, text = fresh:send(ID, "ann", "Say", "m1")
    assert.same({ "MODE_NOT_SUPPORTED", "UnknownMode: " .. session.quarantined }, { code, text })
    assert(fresh.kernel:observe(session, core.now + 60001))
    assert.equal(lifecycle.EXPIRED, session.state)
  end)
end)

describe("client clocks", function()
  it("beyond exact integers neither break a start nor extend it", function()
    local core = fakes.core()
    assert(core:start(ID, nil, { timestamp_unix_ms = "9223372036854775807" }))
    assert.equal(core.now + 60000, core.sessions:find(ID).expires_at)
  end)
end)
