local fakes = require("spec.support.runtime_fakes")
local format = require("macp.runtime.format")
local layout = require("macp.runtime.layout")
local lifecycle = require("macp.protocol.lifecycle")
local messages = require("macp.protocol.messages")
local records = require("macp.runtime.records")

local ID, OPEN = "0f8fad5b-d9cb-469f-a165-70867728950e", "abcdefghijklmnopqrstuvwx"

local function write(journal, version)
  local codec = messages.codec("macp.internal.v1.Format")
  journal.logs[layout.FORMAT] = { assert(codec:encode({ version = version, written_by = "9.9.9" })) }
end

-- A store of layout 1: a resolved session and an open one with a checkpoint between its records.
local function old_store()
  local core = fakes.core()
  assert(core:start(ID))
  assert(core:send(ID, "boss", "Commitment", "c1", "done"))
  assert(core:start(OPEN))
  assert(core:send(OPEN, "ann", "Say", "m1", "x"))
  core.log:wait(core.sessions:find(OPEN).lsn)
  local rev = core.modes:get("macp.mode.talk.v1")
  core.journal:append(OPEN, records.checkpoint({
    received_at_ms = core.now, mode_state = rev:encode(OPEN), mode_state_hash = rev:state_hash(OPEN),
  }))
  assert(core:send(OPEN, "ann", "Say", "m2", "y"))
  core.log:wait(core.sessions:find(OPEN).lsn)
  for key in pairs(core.journal.logs) do
    if not layout.is_session(key) then core.journal.logs[key] = nil end
  end
  local log = core.journal.logs[ID]
  log[#log] = nil -- the summary
  return core
end

describe("the format of a store", function()
  it("is written into an empty one", function()
    local journal = fakes.journal()
    journal.logs["revision:sha256-0"] = { "of a mode" } -- others may have been there before
    assert.equal(0, format.read(journal))
    assert.is_true(format.ensure(journal))
    assert.equal(format.VERSION, format.read(journal))
    assert.is_true(format.ensure(journal))
  end)

  it("of layout 1 is brought up to date in place, as often as it takes", function()
    local core = old_store()
    assert.equal(1, format.read(core.journal))
    assert.is_true(format.ensure(core.journal))
    assert.equal(format.VERSION, format.read(core.journal))
    core.journal.logs[layout.FORMAT] = nil -- as if a crash had come before the last step
    assert.is_true(format.ensure(core.journal))
    local fresh = core:restart()
    assert.same({ recovered = 1, finished = 1, skipped = 0 }, fresh.report)
    assert.equal(lifecycle.RESOLVED, fresh.sessions:find(ID).state)
    assert.equal("boss", fresh.sessions:find(ID).initiator)
    local rev = fresh.modes:get("macp.mode.talk.v1")
    assert.equal(1, rev.restored)
    assert.same({ "Say|ann|x|0|0", "Say|ann|y|0|0" }, rev.states[OPEN].entries)
    assert.equal(3, fresh.sessions:find(OPEN).ordinals)
    assert(fresh:send(OPEN, "ann", "Say", "m3", "z"))
  end)

  it("of a newer program is refused", function()
    local journal = fakes.journal()
    write(journal, 7)
    local ok, err = format.ensure(journal)
    assert.is_nil(ok)
    assert.equal("it has format 7, written by version 9.9.9; this program knows format 2 and older", err.message)
  end)

  it("that cannot be read is refused", function()
    local journal = fakes.journal()
    journal.logs[layout.FORMAT] = { "\255" }
    local ok, err = format.ensure(journal)
    assert.is_nil(ok)
    assert.truthy(err.message:find("its format record cannot be read", 1, true))
  end)
end)
