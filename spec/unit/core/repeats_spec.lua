local repeats = require("macp.core.repeats")

describe("errors that repeat themselves", function()
  local now, lines, errors

  local function new(per_period)
    now, lines = 0, {}
    errors = repeats.new({ lines = per_period, period_ms = 1000, mono_ms = function() return now end,
      write = function(level, event, fields) lines[#lines + 1] = { level, event, fields } end })
  end

  local function tell(key) return errors:tell("warn", "db.gone", key, { error = key }) end

  it("are told so many times per period", function()
    new(2)
    for i = 1, 5 do assert.equal(i <= 2, tell("refused")) end
    assert.same({ { "warn", "db.gone", { error = "refused" } }, { "warn", "db.gone", { error = "refused" } } }, lines)
  end)

  it("are told again after the period, with how often they came meanwhile", function()
    new(1)
    for _ = 1, 5 do tell("refused") end
    now = 999
    tell("refused")
    assert.equal(1, #lines)
    now = 1000
    errors.swept = now -- before anybody looks after silent kinds
    tell("refused")
    assert.equal(5, lines[2][3].suppressed)
    tell("refused")
    now = 2000
    errors.swept = now
    tell("refused")
    assert.equal(1, lines[3][3].suppressed)
  end)

  it("of other kinds have lines of their own", function()
    new(1)
    assert.is_true(tell("refused"))
    assert.is_true(tell("timeout"))
    assert.is_true(errors:tell("warn", "other", "refused", {}))
    assert.is_false(tell("timeout"))
  end)

  it("that have stopped are told once more, with what was kept back", function()
    new(1)
    for _ = 1, 4 do tell("refused") end
    now = 1500
    tell("timeout")
    assert.same({ "warn", "db.gone", { error = "refused", suppressed = 3 } }, lines[2])
    assert.equal(3, #lines)
  end)

  it("take bounded memory, however different they are", function()
    new(1)
    for i = 1, 5000 do tell("error " .. i) end
    assert.is_true(errors.count <= 257)
    assert.is_true(#lines <= 257)
    now = 5000
    tell("x")
    assert.equal(1, errors.count)
  end)
end)

describe("failures of requests", function()
  local log = require("host.log")
  local problem = require("macp.http.problem")

  it("are logged so many times per route and reason, however many callers ask", function()
    local real, lines = log.error, {}
    log.error = function(event, fields) lines[#lines + 1] = { event, fields } end
    local path = "/specs/" .. require("host.crypto").uuid4()
    for i = 1, 25 do problem.reply("it is broken", { request_id = "r" .. i, path = path }) end
    problem.reply("it is broken otherwise", { request_id = "other", path = path })
    log.error = real
    assert.equal(11, #lines)
    assert.same({ "request.failed", { request_id = "r1", path = path, error = "it is broken" } }, lines[1])
    assert.equal("other", lines[11][2].request_id)
  end)
end)
