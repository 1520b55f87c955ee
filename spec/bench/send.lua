-- Send at the runtime with the durable file journal and with the memory journal: many sessions, one session, one call
-- at a time.

local fs = require("host.fs")

local load = require("spec.bench.lib.load")
local stack = require("spec.bench.lib.stack")

local SESSIONS, WARM = 64, 20000
-- The machine is shared: each figure is the best of some rounds, what the program can do when nobody else has the
-- cores; the median stands beside it.
local ROUNDS = 3
local PER_CONNECTION = 64 -- calls of one connection that the runtime works on at a time
local TICKS_PER_SECOND = 100 -- of /proc/<pid>/stat, fixed on Linux

-- Processor time of a process so far, in microseconds, of all its threads.
local function cpu_us(pid)
  local fields = {}
  for word in assert(fs.read("/proc/" .. pid .. "/stat")):match("%) (.*)"):gmatch("%S+") do
    fields[#fields + 1] = word
  end
  return (fields[12] + fields[13]) * 1000000 / TICKS_PER_SECOND
end

-- A runtime with an environment; body(send, pid). (yields)
local function with_runtime(env, body)
  local st = stack.new()
  local proc = st:serve("runtime", { env = env })
  body(function(prefix, sessions, calls, in_flight, first)
    return load.send({
      target = st.target, prefix = prefix, sessions = sessions, calls = calls, in_flight = in_flight, first = first,
      connections = math.ceil(in_flight / PER_CONNECTION),
    })
  end, function(sessions) return load.sessions(st.target, sessions) end, proc.proc:pid())
  proc:kill()
  proc:wait()
  st:close()
end

-- Runs measure(round) some times. The round of the highest rate, with the median of all as its `median`. (yields)
local function best_of(measure)
  local rounds = {}
  for round = 1, ROUNDS do rounds[round] = measure(round) end
  table.sort(rounds, function(a, b) return a.rate > b.rate end)
  rounds[1].median = rounds[math.ceil(ROUNDS / 2)].rate
  return rounds[1]
end

local function note_acks(report, result)
  report:note("  best of %d (median %.0f /s); ack p50 %.1f ms, p99 %.1f ms, max %.0f ms", ROUNDS, result.median,
    result.p50_us / 1000, result.p99_us / 1000, result.max_us / 1000)
end

-- The number of the first call of a round, so that no message id comes twice.
local function first_of(round, calls, warm) return warm + (round - 1) * calls end

local function durable(report, yardsticks)
  with_runtime({}, function(send, start)
    local first = start(1) -- before the heavy load: one agent that waits for each answer
    local single = best_of(function(round) return send(first, 1, 2000, 1, first_of(round, 2000, 0)) end)
    local limit_ms = 3000 / yardsticks.fdatasync
    report:at_most("file, 1 in flight, ack p50", single.p50_us / 1000, limit_ms, "ms", "three fdatasyncs")
    local many = start(SESSIONS)
    send(many, SESSIONS, WARM, 64)
    local spread = best_of(function(round) return send(many, SESSIONS, 60000, 64, first_of(round, 60000, WARM)) end)
    report:at_least("file, 64 in flight, 64 sessions", spread.rate, 20000, "/s", "echo")
    report:at_most("  its ack p99", spread.p99_us / 1000, 10, "ms")
    note_acks(report, spread)
    local wide = start(256)
    send(wide, 256, WARM, 256)
    local deep = best_of(function(round) return send(wide, 256, 60000, 256, first_of(round, 60000, WARM)) end)
    report:at_least("file, 256 in flight, 256 sessions", deep.rate, 25000, "/s", "echo")
    note_acks(report, deep)
    local alone = start(1)
    local one = best_of(function(round) return send(alone, 1, 30000, 64, first_of(round, 30000, 0)) end)
    report:at_least("file, 64 in flight, one session", one.rate, 12000, "/s", "echo")
    note_acks(report, one)
  end)
end

local function in_memory(report)
  with_runtime({ MACP_MEMORY_ONLY = "1" }, function(send, start, pid)
    local many = start(SESSIONS)
    send(many, SESSIONS, WARM, 64)
    local calls = 60000
    local result = best_of(function(round)
      local before = cpu_us(pid)
      local done = send(many, SESSIONS, calls, 64, first_of(round, calls, WARM))
      done.cpu_us = (cpu_us(pid) - before) / calls
      return done
    end)
    report:at_least("memory, 64 in flight, 64 sessions", result.rate, 25000, "/s", "echo")
    report:at_most("  server CPU per message", result.cpu_us, 35, "us")
    note_acks(report, result)
  end)
end

return {
  name = "send",
  about = "runtime Send, durable in the file journal, and with the memory journal",
  run = function(report, yardsticks)
    durable(report, yardsticks)
    in_memory(report)
  end,
}
