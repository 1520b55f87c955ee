local breaker = require("macp.core.breaker")

describe("breaker", function()
  local now, changes

  local function new(opts)
    now, changes = 0, {}
    opts = opts or {}
    return breaker.new({
      threshold = 3, reset_ms = 1000, counts = opts.counts,
      mono_ms = function() return now end, now_ms = function() return now end,
      on_change = function(state, reason) changes[#changes + 1] = state .. ": " .. reason end,
    })
  end
  local function fail() return nil, { code = "X" } end
  local function succeed() return "value", nil, "more" end
  local function trip(subject)
    for _ = 1, 3 do subject:call(fail) end
  end

  it("opens after consecutive failures and refuses at once", function()
    local subject = new()
    subject:call(fail)
    subject:call(fail)
    subject:call(succeed)
    subject:call(fail)
    subject:call(fail)
    assert.equal("CLOSED", subject:state())
    subject:call(fail)
    assert.equal("OPEN", subject:state())
    local called = false
    local value, err = subject:call(function() called = true end)
    assert.same({ false, nil, "CIRCUIT_BREAKER_OPEN", 1 }, { called, value, err.code, err.retry_after_s })
    assert.same({ "OPEN: 3 consecutive failures" }, changes)
  end)

  it("passes results through", function()
    assert.same({ "value", nil, "more" }, { new():call(succeed) })
  end)

  it("closes again after a successful probe", function()
    local subject = new()
    trip(subject)
    now = 1000
    assert.equal("HALF_OPEN", subject:state())
    subject:call(succeed)
    assert.equal("CLOSED", subject:state())
    assert.same({
      "OPEN: 3 consecutive failures", "HALF_OPEN: reset timeout after 1000ms", "CLOSED: half-open probe succeeded",
    }, changes)
  end)

  it("opens again when the probe fails", function()
    local subject = new()
    trip(subject)
    now = 1000
    subject:call(fail)
    assert.equal("OPEN", subject:state())
    now = 1999
    assert.equal("OPEN", subject:state())
    now = 2000
    assert.equal("HALF_OPEN", subject:state())
  end)

  it("admits one probe at a time", function()
    local subject = new()
    trip(subject)
    now = 1000
    subject:call(function()
      local _, err = subject:call(succeed)
      assert.equal("CIRCUIT_BREAKER_OPEN", err.code)
      return true
    end)
    assert.equal("CLOSED", subject:state())
  end)

  it("ignores failures that do not count", function()
    local subject = new({ counts = function(err) return err.code == "DOWN" end })
    for _ = 1, 10 do subject:call(fail) end
    assert.equal("CLOSED", subject:state())
    for _ = 1, 3 do subject:call(function() return nil, { code = "DOWN" } end) end
    assert.equal("OPEN", subject:state())
    now = 1000
    subject:call(fail)
    assert.equal("HALF_OPEN", subject:state())
    subject:call(succeed)
    assert.equal("CLOSED", subject:state())
  end)

  it("counts errors that are raised and raises them on", function()
    local subject = new()
    for _ = 1, 3 do assert.has_error(function() subject:call(error, "boom") end) end
    assert.equal("OPEN", subject:state())
  end)

  it("can be closed by hand and keeps a bounded history", function()
    local subject = new()
    for _ = 1, 300 do
      trip(subject)
      subject:reset()
    end
    local history = subject:changes()
    assert.equal(200, #history)
    assert.same({ "CLOSED", "manual reset" }, { history[200].state, history[200].reason })
    for i = 2, #history do assert.are_not.equal(history[i - 1].state, history[i].state) end
  end)

  it("starts its history as closed", function()
    assert.same({ { state = "CLOSED", entered_at_ms = 0, reason = "initial" } }, new():changes())
  end)
end)
