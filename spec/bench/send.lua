-- Send at the runtime, durable in the file journal: many sessions, one session, one call at a time.

local load = require("spec.bench.lib.load")
local stack = require("spec.bench.lib.stack")

return {
  name = "send",
  about = "runtime Send, durable (file journal)",
  run = function(report, yardsticks)
    local st = stack.new()
    local proc = st:serve("runtime")
    local many = load.sessions(st.target, 512)
    local function send(prefix, sessions, calls, in_flight)
      return load.send({
        target = st.target, prefix = prefix, sessions = sessions, calls = calls, in_flight = in_flight,
      })
    end
    send(many, 512, 20000, 64) -- warm
    local spread = load.send({
      target = st.target, prefix = many, sessions = 512, calls = 100000, in_flight = 64, first = 20000,
    })
    report:at_least("64 in flight, 512 sessions", spread.rate, 15000, "/s", "echo")
    report:note("  ack p50 %.1f ms, p99 %.1f ms", spread.p50_us / 1000, spread.p99_us / 1000)
    local one = send(load.sessions(st.target, 1), 1, 50000, 64)
    report:at_least("64 in flight, one session", one.rate, 8000, "/s", "echo")
    local single = send(load.sessions(st.target, 1), 1, 2000, 1)
    local limit_ms = 3000 / yardsticks.fdatasync
    report:at_most("1 in flight, ack p50", single.p50_us / 1000, limit_ms, "ms", "three fdatasyncs")
    proc:kill()
    proc:wait()
    st:close()
  end,
}
