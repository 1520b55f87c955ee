-- Benchmarks: `make bench`, or some of them with `macp run spec/bench/main.lua send http`. Prints each figure with what it
-- must reach and its ratio to the yardstick that limits it. Run on a quiet machine.

local console = require("macp.core.console")
local sys = require("host.sys")

package.path = "./?.lua;" .. package.path

local ALL = { "send", "auth", "stream_fanout", "stores", "recovery", "http", "ingest", "long_session", "checkpoint",
  "latency", "lists", "replay_state", "fanout", "start", "memory", "sessions_memory", "reload", "script", "modes",
  "export", "webhooks", "launch", "replay", "subscribers", "takeover", "tracing",
  "notices" }

local report = require("spec.bench.lib.report")
local postgres = require("spec.support.postgres")
local yardsticks = require("spec.bench.lib.yardsticks")

local chosen = #{ ... } > 0 and { ... } or ALL
local style = console.style()

local function measure_yardsticks()
  local cluster = postgres.start()
  local found = yardsticks.measure(cluster:conninfo())
  cluster:stop()
  console.print(style.bold("yardsticks") .. string.format(
    "  fdatasync %.0f/s  commit %.0f/s  bare http %.0f/s  unary echo %.0f/s  (%s build)",
    found.fdatasync, found.commit, found.http, found.echo, sys.build))
  return found
end

local found = measure_yardsticks()
local figures = report.new(found)
for _, name in ipairs(chosen) do
  local bench = require("spec.bench." .. name)
  console.print("\n" .. style.bold(bench.name) .. "  " .. bench.about
    .. style.dim("   macp run spec/bench/main.lua " .. name))
  bench.run(figures, found)
end
console.print(string.format("\n%d figures, %d missed", #figures.rows, figures.missed))
return figures.missed == 0 and 0 or 1
