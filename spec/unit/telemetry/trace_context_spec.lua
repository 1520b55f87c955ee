local trace_context = require("macp.telemetry.trace_context")

local TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"

describe("W3C trace context", function()
  it("reads what a caller sends", function()
    local context = trace_context.parse("00-" .. TRACE .. "-" .. SPAN .. "-01", "a=1,b=2")
    assert.same({ trace_id = TRACE, span_id = SPAN, sampled = true, state = "a=1,b=2", is_remote = true }, context)
    assert.is_false(trace_context.parse("00-" .. TRACE .. "-" .. SPAN .. "-02").sampled)
  end)

  it("reads what later versions add only as far as it knows", function()
    assert.equal(TRACE, trace_context.parse("01-" .. TRACE .. "-" .. SPAN .. "-01-more").trace_id)
    assert.is_nil(trace_context.parse("01-" .. TRACE .. "-" .. SPAN .. "-01more"))
  end)

  for name, text in pairs({
    ["is too long"] = "00-" .. TRACE .. "-" .. SPAN .. "-01-x", ["is too short"] = "00-" .. TRACE .. "-" .. SPAN,
    ["has no trace"] = "00-" .. ("0"):rep(32) .. "-" .. SPAN .. "-01",
    ["has no parent"] = "00-" .. TRACE .. "-" .. ("0"):rep(16) .. "-01",
    ["is in upper case"] = "00-" .. TRACE:upper() .. "-" .. SPAN .. "-01",
    ["has a forbidden version"] = "ff-" .. TRACE .. "-" .. SPAN .. "-01", ["is empty"] = "",
    ["was sent twice"] = ("00-" .. TRACE .. "-" .. SPAN .. "-01"):rep(2, ", "):sub(1, 112),
  }) do
    it("takes no header that " .. name, function() assert.is_nil(trace_context.parse(text)) end)
  end

  it("drops a state that is not one, and keeps the parent", function()
    for _, state in ipairs({ "", ("x"):rep(513), "a=1\1", ("a=1,"):rep(33) }) do
      local context = trace_context.parse("00-" .. TRACE .. "-" .. SPAN .. "-01", state)
      assert.equal(TRACE, context.trace_id)
      assert.is_nil(context.state)
    end
  end)

  it("writes what it reads", function()
    local text = "00-" .. TRACE .. "-" .. SPAN .. "-01"
    assert.equal(text, trace_context.format(trace_context.parse(text)))
  end)

  it("hands a context on without changing shared headers", function()
    local headers = { authorization = "x" }
    local context = trace_context.parse("00-" .. TRACE .. "-" .. SPAN .. "-00", "a=1")
    assert.same({ authorization = "x", traceparent = "00-" .. TRACE .. "-" .. SPAN .. "-00", tracestate = "a=1" },
      trace_context.inject(headers, context))
    assert.same({ authorization = "x" }, headers)
    assert.equal(headers, trace_context.inject(headers, nil))
  end)

  it("makes ids of the right length that differ", function()
    assert.equal(32, #trace_context.new_trace_id())
    assert.equal(16, #trace_context.new_span_id())
    assert.are_not.equal(trace_context.new_span_id(), trace_context.new_span_id())
  end)
end)
