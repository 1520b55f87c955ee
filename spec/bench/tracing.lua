-- What tracing costs: when it is off, per span when it is on, and per span that is encoded. No I/O.

local task = require("host.task")

local config = require("macp.config")
local messages = require("macp.protocol.messages")
local metrics = require("macp.telemetry.metrics")
local tracer_module = require("macp.telemetry.tracer")
local tracing = require("macp.telemetry.tracing")

local cost = require("spec.bench.lib.cost")

local BATCH = 512

local function run(report)
  local off, parent = tracer_module.new(), { trace_id = ("a"):rep(32), span_id = ("b"):rep(16), sampled = true }
  report:at_most("a span while tracing is off",
    cost(1000000, function() off:child("work", parent) end), 0.1, "us")

  local on, exporter = tracing.open(assert(config.load({ OTEL_ENABLED = "1" })).otel,
    { metrics = metrics.new(), pool = messages.pool })
  local kept = {}
  exporter.add = function(_, span) kept[#kept % BATCH + 1] = span end
  report:at_most("a span that is recorded", cost(50000, function()
    on:child("run-event.persist", parent, { run_id = "6f1c7a52-2222-4a4b-8000-9c1a2b3c4d5e", ["macp.event_count"] = 3 })
      :finish()
  end), 10, "us")
  while #kept < BATCH do on:start("work", parent, { run_id = "x", ["macp.event_count"] = 1 }):finish() end
  report:at_most("a span encoded for the collector",
    cost(20, function() assert(exporter.otlp:encode(kept)) end) / BATCH, 20, "us")

  report:at_most("a scope set and taken away", cost(500000, function()
    task.set_scope(parent)
    task.set_scope(nil)
  end), 1, "us")
end

return { name = "tracing", about = "the cost of spans and of the scope of a request", run = run }
