local retry = require("macp.sdk.retry")
local sdk_errors = require("macp.sdk.errors")
local sys = require("host.sys")

local QUICK = { backoff_base_ms = 1, backoff_max_ms = 2 }

local function ack_error(code)
  return sdk_errors.new("MacpAckError", code, { code = code, failure = { code = code } })
end
local function transport_error(code) return sdk_errors.new("MacpTransportError", code, { code = code }) end

-- Raises the given errors one after the other, then returns "done". Counts the calls.
local function failing(list)
  local counter = { calls = 0 }
  return counter, function()
    counter.calls = counter.calls + 1
    if list[counter.calls] then error(list[counter.calls], 0) end
    return "done"
  end
end

describe("retry", function()
  it("defaults to three retries with doubling pauses up to two seconds", function()
    assert.same({ max_retries = 3, backoff_base_ms = 100, backoff_max_ms = 2000, jitter = 0 }, retry.policy())
    assert.has_error(function() retry.policy({ retries = 3 }) end)
  end)

  local retried = {
    ack_error("RATE_LIMITED"), ack_error("INTERNAL_ERROR"), transport_error("UNAVAILABLE"),
    sdk_errors.new("MacpTimeoutError", "late", { code = "DEADLINE_EXCEEDED" }),
  }
  for _, err in ipairs(retried) do
    it("tries again after " .. err.code, function()
      local counter, send = failing({ err })
      assert.equal("done", retry.run(QUICK, send))
      assert.equal(2, counter.calls)
    end)
  end

  local final = {
    ack_error("FORBIDDEN"), ack_error("SESSION_NOT_OPEN"), ack_error("INVALID_ENVELOPE"),
    transport_error("UNAUTHENTICATED"), transport_error("PERMISSION_DENIED"), transport_error("UNIMPLEMENTED"),
    transport_error("INVALID_ARGUMENT"), transport_error("CANCELLED"),
    sdk_errors.new("MacpSessionError", "a bad argument", { code = "ARGUMENT" }), "a bug",
  }
  for _, err in ipairs(final) do
    it("raises " .. tostring(err) .. " at once", function()
      local counter, send = failing({ err })
      local ok, got = pcall(retry.run, QUICK, send)
      assert.is_false(ok)
      assert.equal(err, got)
      assert.equal(1, counter.calls)
    end)
  end

  it("gives up with the last error as cause", function()
    local last = transport_error("UNAVAILABLE")
    local counter, send = failing({ ack_error("RATE_LIMITED"), ack_error("RATE_LIMITED"), last })
    local ok, err = pcall(retry.run, { max_retries = 2, backoff_base_ms = 1 }, send)
    assert.is_false(ok)
    assert.is_true(sdk_errors.is(err, "MacpRetryError"))
    assert.equal(last, err.cause)
    assert.truthy(err.message:find("after 3 attempts", 1, true))
    assert.equal(3, counter.calls)
  end)

  it("pauses longer each time, but not beyond the limit", function()
    local _, send = failing({ retried[1], retried[1], retried[1], retried[1] })
    local began = sys.mono_ms()
    retry.run({ max_retries = 4, backoff_base_ms = 10, backoff_max_ms = 25 }, send)
    local took = sys.mono_ms() - began
    assert.is_true(took >= 10 + 20 + 25 + 25 - 4, took)
  end)

  it("shortens pauses by up to the jitter", function()
    local random = math.random
    finally(function() math.random = random end) -- luacheck: ignore 122
    math.random = function() return 1 end -- luacheck: ignore 122
    local _, send = failing({ retried[1] })
    local began = sys.mono_ms()
    retry.run({ backoff_base_ms = 20000, backoff_max_ms = 20000, jitter = 1 }, send)
    assert.is_true(sys.mono_ms() - began < 15000)
  end)
end)
