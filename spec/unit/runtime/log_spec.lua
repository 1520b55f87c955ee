local fakes = require("spec.support.runtime_fakes")
local runtime_log = require("macp.runtime.log")
local task = require("host.task")

describe("the log", function()
  local journal, log, published, stale

  before_each(function()
    journal, published, stale = fakes.journal(), {}, {}
    journal.held = true
    log = runtime_log.new(journal, {
      publish = function(_, frame) published[#published + 1] = frame end,
      event = function(event) published[#published + 1] = event end,
      stale = function(session) stale[#stale + 1] = session.id end,
    })
  end)

  local function session(id) return { id = id, lsn = 0, stale = false } end

  it("hands out nothing before it is durable", function()
    log:append_framed(session("a"), "frame", "tail", "event")
    log:advance()
    assert.same({}, published)
    journal:flush()
    log:advance()
    assert.same({ "frame", "event" }, published)
    assert.equal(0, log:backlog())
  end)

  it("keeps the order of appends over thousands of entries and flushes at odd moments", function()
    local sessions, expected = { session("a"), session("b"), session("c") }, {}
    for i = 1, 9000 do
      expected[i] = i
      assert(log:append_framed(sessions[i % 3 + 1], i, "tail"))
      if i % 7 == 0 then journal:flush() end
      if i % 11 == 0 then log:advance() end
    end
    journal:flush()
    log:advance()
    assert.same(expected, published)
    assert.is_true(log.tail < 9000)
  end)

  it("marks only the sessions that lost something", function()
    local a, b = session("a"), session("b")
    log:append_framed(a, "a1", "tail")
    journal:flush()
    log:append_framed(b, "b1", "tail")
    journal:fail()
    log:append_framed(a, "a2", "tail")
    journal:flush()
    log:advance()
    assert.same({ "a1", "a2" }, published)
    assert.same({ "b" }, stale)
    assert.same({ false, true }, { a.stale, b.stale })
    local lsn, err = log:append_framed(b, "b2", "tail")
    assert.is_nil(lsn)
    assert.equal("STALE", err.code)
  end)

  it("appends nothing behind a record that was lost, before anybody has looked", function()
    local a = session("a")
    log:append_framed(a, "a1", "tail")
    journal:fail()
    local lsn, err = log:append_framed(a, "a2", "tail")
    assert.same({ "IO", { "a" } }, { err.code, stale })
    assert.is_nil(lsn)
    journal:flush()
    log:advance()
    assert.same({}, published)
  end)

  it("hands out by itself what nobody waits for, and ends when it is closed", function()
    local running = task.spawn(function() log:run() end)
    journal.held = false
    log:append_framed(session("a"), "frame", "tail")
    require("spec.support.eventually")(function() return #published == 1 end, 1000)
    log:close()
    running:join()
    assert.equal("done", running:status())
  end)
end)
