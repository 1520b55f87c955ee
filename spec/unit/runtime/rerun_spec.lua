local fakes = require("spec.support.runtime_fakes")
local history = require("macp.runtime.history")
local records = require("macp.runtime.records")
local rerun = require("macp.runtime.rerun")

local ID = "0f8fad5b-d9cb-469f-a165-70867728950e"

describe("a session played again", function()
  local core, log

  before_each(function()
    core = fakes.core()
    assert(core:start(ID))
    for i = 1, 4 do assert(core:send(ID, "ann", "Say", "m" .. i, "p" .. i)) end
    core.log:wait(core.sessions:find(ID).lsn)
    core.journal.damaged = function() return {} end
    log = core.journal.logs[ID]
  end)

  local function play(on_step)
    return rerun.play({ journal = core.journal, modes = core.modes, id = ID, on_step = on_step })
  end

  -- Replaces a record by itself with other fields.
  local function change(index, fields)
    local record = assert(records.decode(log[index]))
    local frame = assert(records.frame(fields.envelope or record.envelope))
    log[index] = frame .. records.marked_tail({ received_at_ms = record.received_at_ms,
      mode_state_hash = fields.mode_state_hash })
  end

  it("tells every record with the state after it", function()
    local seen = {}
    local result = assert(play(function(step) seen[#seen + 1] = step end))
    assert.equal(5, result.steps)
    assert.equal(5, #seen)
    assert.same({ 5, "Say", "ann", 5 }, { seen[5].ordinal, seen[5].what, seen[5].sender, seen[5].index })
    assert.equal(result.hash, seen[5].hash)
    assert.not_equal(seen[4].hash, seen[5].hash)
    assert.equal(0, core.modes.pins - 1) -- the live session's own
  end)

  it("stops at a record whose recorded hash is another", function()
    change(3, { mode_state_hash = "beef" })
    local steps = 0
    local result, err = play(function() steps = steps + 1 end)
    assert.is_nil(result)
    assert.same({ "DIFFERENT", "record 3: the state does not have the recorded hash, beef" }, { err.code, err.message })
    assert.equal(2, steps)
  end)

  it("stops at a message that the mode fails on", function()
    local record = assert(records.decode(log[4]))
    record.envelope.message_type = "Bug"
    core.modes:get("macp.mode.talk.v1").apply_many = function(_, _, batch)
      if batch[1] == "Bug" then return nil, { message = "attempt to index a nil value" }, 1 end
      return 1
    end
    change(4, { envelope = record.envelope })
    local _, err = play()
    assert.same({ "DIFFERENT", "record 4: Bug fails: attempt to index a nil value" }, { err.code, err.message })
  end)

  it("names records that are no part of a history", function()
    log[4] = log[1]
    local _, err = play()
    assert.same({ "CORRUPT", "record 4: a second SessionStart" }, { err.code, err.message })
    log[4] = "\255\255"
    _, err = play()
    assert.equal("CORRUPT", err.code)
    assert.matches("^record 4: ", err.message)
    table.remove(log, 1)
    _, err = play()
    assert.same({ "CORRUPT", "record 1: the history does not begin with a SessionStart" }, { err.code, err.message })
  end)

  it("tells what damage was found when the store was opened", function()
    core.journal.damaged = function() return { [ID] = "records of this key are damaged or missing" } end
    local _, err = play()
    assert.same({ "CORRUPT", "records of this key are damaged or missing" }, { err.code, err.message })
  end)

  it("adds up all histories in one pass, and names the one that is broken", function()
    log[3] = "\255\255"
    local all = assert(history.all(core.journal))
    assert.matches("record", all[ID].broken .. " record")
    assert.is_nil(all[ID].mode)
  end)
end)
