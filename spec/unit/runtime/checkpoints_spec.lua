local fakes = require("spec.support.runtime_fakes")
local layout = require("macp.runtime.layout")
local records = require("macp.runtime.records")

local sys = require("host.sys")
local task = require("host.task")

local INTERVAL = 4
local ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
local KEY = layout.checkpoint(ID)

local function say(core, from, to)
  for i = from, to do assert(core:send(ID, "ann", "Say", "m" .. i, "x")) end
  core.log:wait(core.sessions:find(ID).lsn)
end

local function covers(core) return records.decode(core.journal.logs[KEY][1]).coverage end

describe("checkpoints", function()
  local core

  before_each(function()
    core = fakes.core({ interval = INTERVAL })
    assert(core:start(ID))
  end)

  it("W10: come less often the longer a session is, and replace each other", function()
    local seen = {}
    for i = 1, 200 do
      say(core, i, i)
      core:work("checkpoints")
      local ordinals = core.journal.logs[KEY] and covers(core).ordinals
      if ordinals and ordinals ~= seen[#seen] then seen[#seen + 1] = ordinals end
    end
    assert.same({ 5, 10, 20, 40, 80, 160 }, seen)
    assert.equal(2, #core.journal.logs[KEY]) -- what it covers, and the state
  end)

  it("W10 W11: stand beside the history, which holds envelopes only", function()
    say(core, 1, 9)
    core:work("checkpoints")
    assert.equal(10, #core.journal.logs[ID])
    assert.same({}, core.sessions:find(ID).skips)
  end)

  it("encode a small state in one go", function()
    local rev = core.modes:get("macp.mode.talk.v1")
    rev.weighs = 100
    rev.encode_begin = function() error("it has steps") end
    say(core, 1, 5)
    core:work("checkpoints")
    assert.equal(6, covers(core).ordinals)
    rev.encode_begin = nil
    local fresh = core:restart()
    assert.same(rev.states[ID].entries, fresh.modes:get("macp.mode.talk.v1").states[ID].entries)
    assert.equal(0, fresh.mismatches)
  end)

  it("begin anew when a message comes in between", function()
    say(core, 1, 5)
    local rev = core.modes:get("macp.mode.talk.v1")
    local step, steps = rev.encode_step, 0
    rev.encode_step = function(...)
      steps = steps + 1
      if steps == 2 then assert(core:send(ID, "ann", "Say", "between", "x")) end
      return step(...)
    end
    core:work("checkpoints")
    assert.equal(7, covers(core).ordinals)
    local fresh = core:restart()
    assert.same(rev.states[ID].entries, fresh.modes:get("macp.mode.talk.v1").states[ID].entries)
    assert.equal(0, fresh.mismatches)
  end)

  it("wait until a busy session comes to rest", function()
    core = fakes.core({ interval = INTERVAL, rest_ms = 500 })
    assert(core:start(ID))
    local running = task.spawn(function() core.checkpoints:run() end)
    for i = 1, 10 * INTERVAL do -- 1.2 s: some looks
      say(core, i, i)
      task.sleep(30)
    end
    assert.is_nil(core.journal.logs[KEY])
    require("spec.support.eventually")(function() return core.journal.logs[KEY] end, 5000)
    assert.equal(1 + 10 * INTERVAL, covers(core).ordinals)
    core.checkpoints:close()
    running:join()
  end)

  it("do not wait for ever for a session that never rests", function()
    local running = task.spawn(function() core.checkpoints:run() end)
    local said, ends = 0, sys.mono_ms() + 20000
    while not core.journal.logs[KEY] and sys.mono_ms() < ends do
      said = said + 1
      say(core, said, said)
      task.sleep(1)
    end
    assert.truthy(core.journal.logs[KEY])
    core.checkpoints:close()
    running:join()
  end)

  it("are written while a session that is never quiet is held, and its messages wait", function()
    say(core, 1, 5)
    local rev = core.modes:get("macp.mode.talk.v1")
    local step, tries, answered = rev.encode_step, 0, nil
    rev.encode_step = function(...)
      tries = tries + 1
      if tries < 60 and tries % 2 == 0 and not core.sessions.busy[ID] then
        assert(core:send(ID, "ann", "Say", "n" .. tries, "x"))
      elseif core.sessions.busy[ID] and answered == nil then
        answered = false
        task.spawn(function()
          assert(core:send(ID, "ann", "Say", "while held", "x"))
          answered = core.journal.logs[KEY] ~= nil
        end)
      end
      return step(...)
    end
    core:work("checkpoints")
    require("spec.support.eventually")(function() return answered end, 1000)
  end)

  for _, case in ipairs({
    { "is broken", function(log) log[1] = "\255" end, 0 },
    { "lacks a part", function(log)
      local record = records.decode(log[1])
      record.coverage.parts = 3
      log[1] = records.checkpoint({ received_at_ms = 1, coverage = record.coverage, mode_state = record.mode_state })
    end, 0 },
    { "covers more than there is", function(log, record)
      record.coverage.index = 99
      log[1] = records.checkpoint({ received_at_ms = 1, coverage = record.coverage, mode_state = record.mode_state })
    end, 0 },
    { "belongs to an earlier session", function(log, record)
      record.coverage.started_at_ms = 5
      log[1] = records.checkpoint({ received_at_ms = 1, coverage = record.coverage, mode_state = record.mode_state })
    end, 1 },
    { "counts otherwise than the history", function(log, record)
      record.coverage.ordinals = 3
      log[1] = records.checkpoint({ received_at_ms = 1, coverage = record.coverage, mode_state = record.mode_state })
    end, 1 },
    { "restores to another state", function(log, record)
      log[1] = records.checkpoint({ received_at_ms = 1, coverage = record.coverage,
        mode_state = record.mode_state, mode_state_hash = ("0"):rep(64) })
    end, 1 },
  }) do
    it("are of no consequence when one " .. case[1], function()
      say(core, 1, 6)
      core:work("checkpoints")
      say(core, 7, 8)
      local log = core.journal.logs[KEY]
      case[2](log, records.decode(log[1]))
      local fresh = core:restart()
      assert.same(core.modes:get("macp.mode.talk.v1").states[ID].entries,
        fresh.modes:get("macp.mode.talk.v1").states[ID].entries)
      assert.equal(9, fresh.sessions:find(ID).ordinals)
      assert.equal(case[3], fresh.mismatches)
      assert.is_nil(fresh.sessions:find(ID).quarantined)
      local strict = core:restart({ strict = true })
      assert.equal(case[3] == 0, strict.report ~= nil)
      if case[3] > 0 then
        assert.truthy(strict.failure.message:find("session " .. ID .. ": its checkpoint", 1, true))
      end
    end)
  end

  it("are not written for what the disk has lost", function()
    say(core, 1, 5)
    core.journal.held = true
    assert(core:send(ID, "ann", "Say", "m6", "x"))
    core.journal:fail()
    core.journal.held = false
    core:work("checkpoints")
    assert.is_nil(core.journal.logs[KEY])
  end)

  it("are tried again later when the disk fails", function()
    core.journal.replace = function() return nil, { code = "IO", message = "the disk failed" } end
    say(core, 1, 5)
    core:work("checkpoints")
    core.journal.replace = nil
    assert.is_nil(core.journal.logs[KEY])
    say(core, 6, 20)
    core:work("checkpoints")
    assert.is_true(covers(core).ordinals >= 10)
  end)
end)

describe("the recorded hash of a final state", function()
  it("W8: is compared when a finished session is replayed, and strict recovery names the session", function()
    local core = fakes.core()
    assert(core:start(ID))
    say(core, 1, 2)
    assert(core:send(ID, "boss", "Commitment", "c1", "done"))
    core.log:wait(core.sessions:find(ID).lsn)
    core.journal:flush()
    assert.equal(1, core:restart({ strict = true }).report.finished)
    local log = core.journal.logs[ID]
    local frame, record = records.frame_of(log[2]), records.decode(log[2])
    log[2] = frame:gsub("m1", "m9"):gsub("x", "y") .. records.incoming_tail(record.received_at_ms)
    local strict = core:restart({ strict = true })
    assert.is_nil(strict.report)
    assert.equal("session " .. ID .. ": the history does not replay: the final state does not have the recorded hash",
      strict.failure.message)
    assert.equal(1, strict.mismatches)
    assert.equal(1, core:restart().report.finished)
  end)
end)
