local fakes = require("spec.support.runtime_fakes")
local control = require("macp.runtime.control")
local layout = require("macp.runtime.layout")
local lifecycle = require("macp.protocol.lifecycle")
local records = require("macp.runtime.records")
local session_record = require("macp.runtime.session")

local HOUR_MS = layout.HOUR_MS
local ID, OTHER = "0f8fad5b-d9cb-469f-a165-70867728950e", "abcdefghijklmnopqrstuvwx"

local function ended_keys(core)
  local keys = {}
  for _, key in ipairs(core.journal:keys()) do
    if layout.hour_of_key(key) then keys[#keys + 1] = key end
  end
  return keys
end

local function cancel(core, id)
  local session = core.sessions:find(id)
  assert(control.cancel(core.kernel, session, fakes.identity("boss"), ""))
  core.log:wait(session.lsn)
  core.journal:flush()
  return session
end

describe("a finished session", function()
  local core

  before_each(function()
    core = fakes.core({ interval = 2 })
    assert(core:start(ID))
    for i = 1, 5 do assert(core:send(ID, i % 2 == 0 and "ann" or "bob", "Say", "m" .. i, "x")) end
  end)

  it("ends with a summary, is in the index, and has no checkpoint any more", function()
    core:work("checkpoints")
    assert.equal(2, core.journal:count(layout.checkpoint(ID)))
    local session = cancel(core, ID)
    assert.equal(0, core.journal:count(layout.checkpoint(ID)))
    local log = core.journal.logs[ID]
    local last = records.decode(log[#log])
    assert.equal(records.SUMMARY, last.kind)
    assert.equal(session.index, #log)
    local entries = core.journal.logs[layout.ended(layout.hour_of(session.ended_at))]
    local entry = records.decode_ended(entries[1])
    assert.same({ ID, session.started_at, session.ended_at, #log },
      { entry.session_id, entry.started_at_ms, entry.ended_at_ms, entry.records })
  end)

  it("W17: leaves memory so long after its end, not after its start", function()
    core.now = core.now + 50000
    local session = cancel(core, ID)
    assert.same({ session, session.started_at + 50000 + 3600000 }, { core.sessions.deadlines:first() })
  end)

  it("comes back from its first and last record, ids only when they are asked for", function()
    control.suspend(core.kernel, core.sessions:find(ID), fakes.identity("boss"), "")
    core.now = core.now + 70
    control.resume(core.kernel, core.sessions:find(ID), fakes.identity("boss"), "")
    local before = cancel(core, ID)
    local fresh = core:restart({ keep_ended = false })
    local reads = 0
    local read = core.journal.read
    function core.journal.read(...)
      reads = reads + 1
      return read(...)
    end
    local session = fresh.sessions:find(ID)
    core.journal.read = nil
    assert.is_nil(session.ids)
    assert.is_true(reads <= 3)
    assert.same(session_record.metadata(before), session_record.metadata(session))
    local fields = { "ordinals", "published", "index", "skips", "suspended_total", "suspensions", "last_at" }
    for _, field in ipairs(fields) do
      assert.same(before[field], session[field])
    end
    assert.is_true(fresh.sessions:load_ids(session))
    assert.same(before.ids, session.ids)
  end)

  it("W20: is a name in lists after a restart until somebody asks", function()
    cancel(core, ID)
    local fresh = core:restart()
    assert.same({ recovered = 0, finished = 1, skipped = 0 }, fresh.report)
    assert.is_true(fresh.sessions.by_id[ID].is_stub)
    assert.equal(ID, fresh.sessions.by_name:after(""))
    assert.equal(lifecycle.CANCELLED, fresh.sessions:find(ID).state)
    assert.equal(0, fresh.sessions.open)
  end)

  it("gets what a crash kept it from getting", function()
    cancel(core, ID)
    local log = core.journal.logs[ID]
    log[#log] = nil -- the summary
    for _, key in ipairs(ended_keys(core)) do core.journal.logs[key] = nil end
    core.journal.logs[layout.checkpoint(ID)] = { "left behind" }
    local fresh = core:restart()
    fresh.journal:flush()
    assert.equal(lifecycle.CANCELLED, fresh.sessions:find(ID).state)
    assert.equal(records.SUMMARY, records.decode(log[#log]).kind)
    assert.equal(1, #ended_keys(core))
    assert.equal(0, core.journal:count(layout.checkpoint(ID)))
    assert.equal(1, core:restart().report.finished)
  end)

  it("leaves nothing in memory when its time there is over, nor after a restart", function()
    cancel(core, ID)
    local session = core.sessions:find(ID)
    assert.is_nil(core.journal.parked[ID])
    core.sessions:remove(session)
    assert.is_true(core.journal.parked[ID])
    assert.equal(0, core.sessions.count)
    core.journal.parked = {}
    assert(core:start(OTHER))
    core.journal:flush()
    local fresh = core:restart({ keep_ended = false })
    assert.same({ [ID] = true }, core.journal.parked)
    assert.equal(lifecycle.CANCELLED, fresh.sessions:find(ID).state)
  end)

  it("that was lost with its flush is not in the index", function()
    core.log:wait(core.sessions:find(ID).lsn)
    core.journal.held = true
    local session = core.sessions:find(ID)
    assert(control.cancel(core.kernel, session, fakes.identity("boss"), ""))
    core.journal:fail()
    core.log:advance()
    core.journal.held = false
    assert.equal(lifecycle.OPEN, core.sessions:find(ID).state)
    assert.same({}, ended_keys(core))
    assert.equal(lifecycle.CANCELLED, cancel(core, ID).state)
    assert.equal(1, #ended_keys(core))
  end)
end)

describe("with drop, a finished history", function()
  local core

  before_each(function()
    core = fakes.core({ compact = "drop" })
    assert(core:start(ID, { context_id = "ctx" }))
    for i = 1, 3000 do assert(core:send(ID, "ann", "Say", "m" .. i, "x")) end
  end)

  it("becomes its start, its message ids and a summary", function()
    local before = cancel(core, ID)
    local facts = session_record.metadata(before)
    assert.equal(3002, #core.journal.logs[ID])
    core:work("endings")
    core.journal:flush()
    assert.equal(5, #core.journal.logs[ID]) -- the start, 3001 ids in three records, the summary
    local fresh = core:restart({ keep_ended = false, compact = "drop" })
    assert.equal(1, fresh.report.finished)
    local session = fresh.sessions:find(ID)
    assert.is_true(session.is_dropped)
    assert.same(facts, session_record.metadata(session))
    assert.is_true(fresh.sessions:load_ids(session))
    assert.same(before.ids, session.ids)
    assert.is_true(fresh:send(ID, "ann", "Say", "m2999").duplicate)
  end)

  it("leaves nothing in memory when it is replaced behind its session", function()
    core.sessions:remove(cancel(core, ID))
    core:work("endings")
    core.journal:flush()
    assert.equal(5, #core.journal.logs[ID])
    assert.is_true(core.journal.parked[ID])
  end)

  it("is dropped after a restart when a crash came first", function()
    cancel(core, ID)
    assert.same({}, ended_keys(core))
    local fresh = core:restart({ compact = "drop" })
    assert.equal(1, fresh.report.recovered)
    fresh:work("endings")
    core.journal:flush()
    assert.equal(5, #core.journal.logs[ID])
    assert.equal(1, core:restart({ compact = "drop" }).report.finished)
  end)

  it("stays when the disk fails, and is read as before", function()
    cancel(core, ID)
    core.journal.replace = function() return nil, { code = "IO", message = "the disk failed" } end
    core:work("endings")
    core.journal.replace = nil
    assert.equal(3002, #core.journal.logs[ID])
    assert.is_false(core.sessions:find(ID).is_dropped)
  end)
end)

describe("W17 W19: clean-up", function()
  local core

  before_each(function()
    core = fakes.core({ now = 500000 * HOUR_MS })
    assert(core:start(ID))
    assert(core:start(OTHER))
  end)

  local function collect(limit)
    core.endings:collect(limit)
    core.journal:flush()
  end

  it("counts from the end of a session, not from its start", function()
    core.now = core.now + 50000
    local ended_at = cancel(core, ID).ended_at
    collect(ended_at - 1)
    assert.is_true(core.journal:count(ID) > 0)
    collect(ended_at)
    assert.equal(0, core.journal:count(ID))
    assert.is_nil(core.sessions:find(ID))
    assert.is_true(core.journal:count(OTHER) > 0)
  end)

  it("reads what it deletes and nothing else", function()
    local first = cancel(core, ID).ended_at
    core.now = core.now + 30000
    cancel(core, OTHER)
    local read, seen = core.journal.read, {}
    function core.journal.read(self, key, ...)
      seen[key] = true
      return read(self, key, ...)
    end
    collect(first)
    collect(first)
    core.journal.read = nil
    assert.is_true(seen[ID])
    assert.is_nil(seen[OTHER])
  end)

  it("goes on where it was after a restart, and never takes a session that began anew under the same id", function()
    local first = cancel(core, ID).ended_at
    core.now = core.now + 30000
    cancel(core, OTHER)
    collect(first)
    assert(core:start(ID, nil, { message_id = "again" }))
    core.log:wait(core.sessions:find(ID).lsn)
    local fresh = core:restart()
    assert.equal(lifecycle.OPEN, fresh.sessions:find(ID).state)
    fresh.endings:collect(first)
    core.journal:flush()
    assert.equal(lifecycle.OPEN, fresh.sessions:find(ID).state)
    assert.equal(1, fresh.report.finished)
  end)

  it("leaves out a stored session that is not over, whatever the index says", function()
    local hour = layout.hour_of(core.now)
    core.endings:collect(core.now) -- nothing there
    core.journal:append(layout.ended(hour), records.ended({ session_id = ID, ended_at_ms = core.now, records = 1 }))
    core.journal:flush()
    core.endings:load(core.journal:keys())
    collect(core.now)
    assert.is_true(core.journal:count(ID) > 0)
  end)

  it("deletes more than one batch, hour after hour, and the index with them", function()
    for i = 1, 1100 do
      local id = string.format("session-%020d", i)
      assert(core:start(id))
      core.now = core.now + 9000
      cancel(core, id)
    end
    assert.is_true(#ended_keys(core) >= 3)
    collect(core.now + HOUR_MS)
    assert.same({}, ended_keys(core))
    assert.equal(2, #core.journal:keys()) -- the two open ones
  end)
end)
