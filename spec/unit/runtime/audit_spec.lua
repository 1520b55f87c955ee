local log = require("host.log")

local audit = require("macp.runtime.audit")

local IDENTITY = { sender = "ann" }
local ENVELOPE = { session_id = "s", mode = "m", message_type = "Vote", message_id = "m1", payload = "secret" }

describe("the audit of messages", function()
  local lines, now, kept, is_debug

  before_each(function()
    lines, now, is_debug = {}, 1000, false
    for _, level in ipairs({ "debug", "info", "warn" }) do
      stub(log, level, function(event, fields) lines[#lines + 1] = { level, event, fields } end)
    end
    stub(log, "enabled", function(level) return level ~= "debug" or is_debug end)
    kept = audit.new(function() return now end)
  end)
  after_each(function()
    for _, name in ipairs({ "debug", "info", "warn", "enabled" }) do log[name]:revert() end
  end)

  local function session(rules) return { policy = { rules = rules or {} } } end

  local refusals = {
    { "POLICY_DENIED", "message.denied" }, { "FORBIDDEN", "message.forbidden" },
    { "UNAUTHENTICATED", "message.forbidden" }, { "RATE_LIMITED", "message.limited" },
  }
  for _, case in ipairs(refusals) do
    it("warns of " .. case[1] .. ", without payload", function()
      kept:refused(IDENTITY, ENVELOPE, case[1], "why", { reasons = { "too few" } })
      assert.same({ { "warn", case[2], { session_id = "s", mode = "m", message_type = "Vote", message_id = "m1",
        sender = "ann", reason = "why", reasons = { "too few" } } } }, lines)
    end)
  end

  it("says nothing of mistakes", function()
    kept:refused(IDENTITY, ENVELOPE, "INVALID_ENVELOPE", "why")
    assert.same({}, lines)
  end)

  it("writes so many lines per second and kind, and counts the rest", function()
    for _ = 1, 50 do kept:refused(IDENTITY, ENVELOPE, "FORBIDDEN", "why") end
    assert.equal(audit.LINES_PER_SECOND, #lines)
    kept:refused(IDENTITY, ENVELOPE, "RATE_LIMITED", "why")
    assert.equal("message.limited", lines[#lines][2])
    now = now + 1000
    kept:refused(IDENTITY, ENVELOPE, "FORBIDDEN", "why")
    assert.equal(40, lines[#lines][3].suppressed)
    kept:refused(IDENTITY, ENVELOPE, "FORBIDDEN", "why")
    assert.is_nil(lines[#lines][3].suppressed)
  end)

  it("tells repetitions", function()
    kept:accepted(IDENTITY, ENVELOPE, { duplicate = true, session = session() })
    assert.same({ "info", "message.duplicate" }, { lines[1][1], lines[1][2] })
  end)

  it("tells accepted messages at debug, and at info when the policy asks for it", function()
    kept:accepted(IDENTITY, ENVELOPE, { duplicate = false, session = session() })
    assert.equal(0, #lines)
    is_debug = true
    kept:accepted(IDENTITY, ENVELOPE, { duplicate = false, session = session() })
    kept:accepted(IDENTITY, ENVELOPE, { duplicate = false, session = session({ audit = { level = "info" } }) })
    kept:accepted(IDENTITY, ENVELOPE, { duplicate = false })
    assert.same({ "debug", "info", "debug" }, { lines[1][1], lines[2][1], lines[3][1] })
    assert.equal("message.accepted", lines[2][2])
    assert.is_nil(lines[2][3].payload)
  end)
end)
