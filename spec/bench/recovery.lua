-- Recovery: the runtime starts on a journal of 10 000 open sessions of 20 envelopes each.

local sys = require("host.sys")

local load = require("spec.bench.lib.load")
local stack = require("spec.bench.lib.stack")

local SESSIONS, ENVELOPES = 10000, 20

return {
  name = "recovery",
  about = "recovery of 10 000 open sessions of 20 envelopes",
  run = function(report)
    local st = stack.new()
    local proc = st:serve("runtime")
    local prefix = load.sessions(st.target, SESSIONS) -- a SessionStart and a Proposal each
    load.send({
      target = st.target, prefix = prefix, sessions = SESSIONS, calls = SESSIONS * (ENVELOPES - 2), in_flight = 64,
    })
    proc:crash()
    local began = sys.mono_ms()
    proc = st:serve("runtime")
    report:at_most("start until it serves", (sys.mono_ms() - began) / 1000, 5, "s")
    report:note("  resident afterwards %.0f MiB", stack.rss_mib(proc.proc:pid()))
    proc:kill()
    proc:wait(30000)
    st:close()
  end,
}
