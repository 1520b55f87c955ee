local task = require("host.task")

local config = require("macp.config")
local messages = require("macp.protocol.messages")
local metrics = require("macp.telemetry.metrics")
local tracing = require("macp.telemetry.tracing")

local collector = require("spec.support.collector")
local eventually = require("spec.support.eventually")

describe("the exporter of spans", function()
  local traces, registry, exporter

  -- A tracer that sends to the collector, which answers as told.
  local function start(answer, env)
    traces = collector.start(answer)
    registry = metrics.new()
    local all = { OTEL_ENABLED = "1", OTEL_EXPORTER_OTLP_ENDPOINT = traces.url .. "/", OTEL_BSP_SCHEDULE_DELAY = "20" }
    for name, value in pairs(env or {}) do all[name] = value end
    local tracer
    tracer, exporter = tracing.open(assert(config.load(all)).otel, { metrics = registry, pool = messages.pool })
    exporter.backoff = { base_ms = 5, max_ms = 10 }
    return tracer
  end

  local function count(result) return registry.families.macp_otlp_spans_total:labels(result).value end

  local function make(tracer, number)
    for i = 1, number do tracer:start("work", nil, { i = i }):finish() end
  end

  after_each(function()
    exporter:close(2000)
    traces:close()
  end)

  it("sends what a span says, exactly", function()
    local tracer = start()
    exporter:start()
    local parent = tracer:start("parent", nil, { text = "x", whole = 7, part = 0.5, flag = true })
    local child = tracer:start("child", parent, nil, 3)
    child:event("seen", { n = 1 }, 1700000000123)
    child:fail({ code = "BAD", message = "it broke" })
    child:finish(child.start_ms + 1.5)
    parent:finish()
    local got = traces:await("child")
    assert.same({ parent.trace_id, child.span_id, parent.span_id, 3 },
      { got.trace_id, got.span_id, got.parent_span_id, got.kind })
    assert.equal(string.format("%d000000", child.start_ms), got.start)
    assert.equal(string.format("%d500000", child.start_ms + 1), got.stop)
    assert.same({ name = "seen", attributes = { n = 1 }, time = "1700000000123000000" }, got.events[1])
    assert.same({ ["exception.type"] = "BAD", ["exception.message"] = "it broke" }, got.events[2].attributes)
    assert.same({ code = 2, message = "it broke" }, got.status)
    assert.same({ text = "x", whole = 7, part = 0.5, flag = true }, traces:await("parent").attributes)
  end)

  it("sends many in batches, and all of them", function()
    local tracer = start(nil, { OTEL_BSP_MAX_EXPORT_BATCH_SIZE = "200" })
    exporter:start()
    make(tracer, 500)
    eventually(function() return count("exported") == 500 end, 5000, "500 spans")
    assert.equal(500, #traces.spans)
    assert.equal(3, #traces.requests)
  end)

  it("drops what finds no room, counts it and never waits", function()
    local tracer = start(nil, { OTEL_BSP_MAX_QUEUE_SIZE = "10" })
    make(tracer, 25)
    assert.equal(15, count("dropped"))
    assert.equal(10, registry.families.macp_otlp_queue_spans:labels().value)
    exporter:start()
    eventually(function() return #traces.spans == 10 end, 5000, "10 spans")
  end)

  it("tries again when the collector is busy", function()
    local tracer = start(function(_, n)
      if n <= 2 then return n == 1 and 503 or 429, { ["retry-after"] = "0" }, "" end
    end)
    exporter:start()
    make(tracer, 3)
    eventually(function() return count("exported") == 3 end, 5000, "3 spans")
    assert.equal(3, #traces.requests)
    assert.same({ 3, 0, 0 }, { count("exported"), count("failed"), count("dropped") })
  end)

  it("gives a batch up that is refused, and goes on with the next", function()
    local tracer = start(function(_, n) if n == 1 then return 400, nil, "" end end)
    exporter:start()
    make(tracer, 2)
    eventually(function() return count("failed") == 2 end, 5000, "a refused batch")
    make(tracer, 1)
    eventually(function() return count("exported") == 1 end, 5000, "the next one")
  end)

  it("gives a batch up after a bounded number of attempts", function()
    local tracer = start(function() return 502, nil, "" end)
    exporter:start()
    make(tracer, 2)
    eventually(function() return count("failed") == 2 end, 5000, "a given up batch")
    assert.equal(5, #traces.requests)
  end)

  it("counts what the collector did not take of a batch", function()
    local codec = messages.codec("opentelemetry.proto.collector.trace.v1.ExportTraceServiceResponse")
    local tracer = start(function()
      return 200, nil, codec:encode({ partial_success = { rejected_spans = 2, error_message = "too old" } })
    end)
    exporter:start()
    make(tracer, 5)
    eventually(function() return count("exported") == 3 end, 5000, "an answer")
    assert.equal(2, count("failed"))
  end)

  it("sends what is left at the end", function()
    local tracer = start(nil, { OTEL_BSP_SCHEDULE_DELAY = "60000" })
    exporter:start()
    make(tracer, 4)
    task.sleep(1)
    exporter:close(2000)
    assert.equal(4, #traces.spans)
  end)

  it("does not hold up the end when the collector hangs", function()
    local tracer = start(function() task.sleep(3000) end, { OTEL_BSP_SCHEDULE_DELAY = "60000" })
    exporter:start()
    make(tracer, 4)
    local ended = task.with_deadline(2000, function()
      exporter:close(100)
      return true
    end)
    assert.is_true(ended)
    assert.equal(4, count("failed") + count("dropped"))
  end)

  it("sends to the whole address that the settings give", function()
    local elsewhere = collector.start()
    local tracer = start(nil, { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT = elsewhere.url .. "/custom?x=1" })
    exporter:start()
    make(tracer, 1)
    elsewhere:await("work")
    assert.equal("/custom", elsewhere.requests[1].path)
    elsewhere:close()
  end)

  it("is not there when tracing is off", function()
    start()
    for _, env in ipairs({ {}, { OTEL_ENABLED = "0" }, { OTEL_ENABLED = "1", OTEL_SDK_DISABLED = "true" } }) do
      local tracer, none = tracing.open(assert(config.load(env)).otel, {})
      assert.is_nil(none)
      assert.is_false(tracer.is_on)
      assert.is_nil(tracer:child("x", { sampled = true, trace_id = "x", span_id = "y" }))
    end
  end)
end)
