local fakes = require("spec.support.runtime_fakes")
local lifecycle = require("macp.protocol.lifecycle")
local control = require("macp.runtime.control")
local session_record = require("macp.runtime.session")

local ID = "0f8fad5b-d9cb-469f-a165-70867728950e"

local function states(core) return core.modes:get("macp.mode.talk.v1").states[ID] end

local function facts(session)
  return {
    metadata = session_record.metadata(session), ids = session.ids, ordinals = session.ordinals, due = session.due,
    suspended_total = session.suspended_total, skips = session.skips, index = session.index,
  }
end

describe("recovery", function()
  local core, boss

  before_each(function()
    core, boss = fakes.core(), fakes.identity("boss")
    assert(core:start(ID, { context_id = "ctx", extensions = { a = "1" } }, { timestamp_unix_ms = core.now - 500 }))
  end)

  it("brings back every fact of an open session", function()
    assert(core:send(ID, "ann", "Say", "m1", "x"))
    local session = core.sessions:find(ID)
    control.suspend(core.kernel, session, boss, "")
    core.now = core.now + 300
    control.resume(core.kernel, session, boss, "")
    assert(core:send(ID, "bob", "Arm", "m2", "900"))
    core.log:wait(session.lsn)
    core.now = core.now + 7
    local fresh = core:restart()
    assert.same(facts(session), facts(fresh.sessions:find(ID)))
    assert.same(states(core).entries, states(fresh).entries)
    assert.equal(1, fresh.modes.pins)
  end)

  it("continues as if nothing had happened", function()
    assert(core:send(ID, "ann", "Say", "m1", "x"))
    core.log:wait(core.sessions:find(ID).lsn)
    local fresh = core:restart()
    assert.is_true(fresh:send(ID, "ann", "Say", "m1").duplicate)
    assert(fresh:send(ID, "ann", "Say", "m2", "y"))
    assert.equal(3, fresh.sessions:find(ID).ordinals)
  end)

  it("restores from the last checkpoint and replays what follows", function()
    core = fakes.core({ interval = 4 })
    assert(core:start(ID))
    for i = 1, 10 do assert(core:send(ID, "ann", "Say", "m" .. i, "p" .. i)) end
    core:work("checkpoints")
    for i = 11, 13 do assert(core:send(ID, "ann", "Say", "m" .. i, "p" .. i)) end
    core.log:wait(core.sessions:find(ID).lsn)
    local fresh = core:restart()
    assert.same(states(core).entries, states(fresh).entries)
    assert.same(facts(core.sessions:find(ID)), facts(fresh.sessions:find(ID)))
    assert.is_true(fresh.modes:get("macp.mode.talk.v1").restored > 0)
  end)

  it("leaves ended sessions readable without running their mode", function()
    assert(core:send(ID, "boss", "Commitment", "c1", "done"))
    core.log:wait(core.sessions:find(ID).lsn)
    local fresh = core:restart()
    local session = fresh.sessions:find(ID)
    assert.equal(lifecycle.RESOLVED, session.state)
    assert.is_nil(states(fresh))
    assert.equal(0, fresh.modes.pins)
  end)

  it("finds sessions that ended long ago in the journal, on demand", function()
    assert(control.cancel(core.kernel, core.sessions:find(ID), boss, ""))
    core.log:wait(core.sessions:find(ID).lsn)
    local fresh = core:restart({ keep_ended = false })
    assert.equal(0, fresh.sessions.count)
    assert.equal(lifecycle.CANCELLED, fresh.sessions:find(ID).state)
    local _, code = fresh:start(ID, nil, { message_id = "again" })
    assert.equal("SESSION_ALREADY_EXISTS", code)
    assert.is_nil(fresh.sessions:find("nobody-knows-this-session"))
  end)

  it("lets a session begin whose name the journal takes for a stored one until it is read", function()
    local name, is_mistaken = "0123456789abcdef0123456789abcdef", true
    local count, read = core.journal.count, core.journal.read
    function core.journal.count(journal, key)
      if key == name and is_mistaken then return 3, 3 end
      return count(journal, key)
    end
    function core.journal.read(journal, key, ...)
      if key == name then is_mistaken = false end
      return read(journal, key, ...)
    end
    assert.is_nil(core.sessions:find(name))
    is_mistaken = true
    assert(core:start(name))
    assert.equal(lifecycle.OPEN, core.sessions:find(name).state)
  end)

  it("keeps a session whose revision is lost readable and refuses its messages", function()
    core.log:wait(core.sessions:find(ID).lsn)
    local modes = fakes.modes()
    modes.lost = true
    local fresh = core:restart({ modes = modes })
    assert.equal(lifecycle.OPEN, fresh.sessions:find(ID).state)
    local _, code = fresh:send(ID, "ann", "Say", "m1")
    assert.equal("MODE_NOT_SUPPORTED", code)
  end)

  it("fails in strict mode when a revision is lost", function()
    core.log:wait(core.sessions:find(ID).lsn)
    local modes = fakes.modes()
    modes.lost = true
    local fresh = core:restart({ modes = modes, strict = true })
    assert.is_nil(fresh.report)
  end)

  it("skips a history that cannot be read and reports it", function()
    core.log:wait(core.sessions:find(ID).lsn)
    core.journal.logs["broken-session-broken-x"] = { "\255\255\255" }
    local fresh = core:restart()
    assert.same({ recovered = 1, finished = 0, skipped = 1 }, fresh.report)
  end)
end)

describe("a failed flush", function()
  local core

  before_each(function()
    core = fakes.core()
    assert(core:start(ID))
    core.log:wait(1)
    core.journal.held = true
  end)

  it("takes back everything that was not durable and lets ids be used again", function()
    assert(core:send(ID, "ann", "Say", "m1", "x"))
    core.journal:flush()
    core.log:advance()
    assert(core:send(ID, "ann", "Say", "m2", "y"))
    assert(core:send(ID, "bob", "Say", "m3", "z"))
    local lsn = core.sessions:find(ID).lsn
    core.journal:fail()
    local ok, err = core.log:wait(lsn)
    assert.is_nil(ok)
    assert.equal("IO", err.code)
    assert.same({ ID }, core.lost)
    core.journal.held = false
    local session = core.sessions:find(ID)
    assert.same({ start = true, m1 = true }, { start = session.ids.start and true, m1 = session.ids.m1 and true,
      m2 = session.ids.m2, m3 = session.ids.m3 })
    assert.same({ "Say|ann|x|0|0" }, states(core).entries)
    local verdict = assert(core:send(ID, "ann", "Say", "m2", "y"))
    assert.is_false(verdict.duplicate)
    assert.is_true(core.log:wait(verdict.lsn))
    assert.equal(3, #core.published)
  end)

  it("refuses what arrives before anybody has noticed", function()
    assert(core:send(ID, "ann", "Say", "m1", "x"))
    local session = core.sessions:find(ID)
    core.journal:fail()
    local verdict, code = core.kernel:message(session, fakes.identity("ann"), {
      macp_version = "1.0", mode = session.mode, message_type = "Say", message_id = "m2", session_id = ID,
      sender = "ann", timestamp_unix_ms = 0, payload = "",
    })
    assert.is_nil(verdict)
    assert.equal("INTERNAL_ERROR", code)
  end)

  it("un-makes a session whose start was lost", function()
    local other = "abcdefghijklmnopqrstuvwx"
    assert(core:start(other))
    core.journal:fail()
    core.log:advance()
    core.journal.held = false
    assert.is_nil(core.sessions:find(other))
    assert.equal(1, core.sessions.open_by.boss)
    assert.is_false(assert(core:start(other)).duplicate)
  end)

  it("keeps what was still on its way when only the append was refused", function()
    core.journal.held = false
    assert(core:send(ID, "ann", "Say", "m1", "x"))
    core.journal.refuse = "disk full"
    local _, code, text = core:send(ID, "ann", "Say", "m2", "y")
    assert.equal("INTERNAL_ERROR", code)
    assert.truthy(text:find("disk full", 1, true))
    core.journal.refuse = nil
    assert.is_true(core:send(ID, "ann", "Say", "m1").duplicate)
    assert(core:send(ID, "ann", "Say", "m2", "y"))
    assert.same({ "Say|ann|x|0|0", "Say|ann|y|0|0" }, states(core).entries)
  end)
end)
