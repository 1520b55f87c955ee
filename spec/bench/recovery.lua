-- Recovery: the runtime starts on a journal of 10 000 open sessions of 20 envelopes each, and of 100 000 finished ones.

local sys = require("host.sys")
local task = require("host.task")

local load = require("spec.bench.lib.load")
local stack = require("spec.bench.lib.stack")

local SESSIONS, ENVELOPES = 10000, 20
local FINISHED, BATCH, TTL_MS = 100000, 10000, 1500

local function restart(report, st, name, proc)
  proc:crash()
  local began = sys.mono_ms()
  proc = st:serve("runtime")
  report:at_most(name, (sys.mono_ms() - began) / 1000, 5, "s")
  report:note("  CPU time %.1f s, resident afterwards %.0f MiB", stack.cpu_ms(proc.proc:pid()) / 1000,
    stack.rss_mib(proc.proc:pid()))
  return proc
end

return {
  name = "recovery",
  about = "recovery of 10 000 open sessions of 20 envelopes, and of 100 000 finished ones",
  run = function(report)
    local st = stack.new()
    local proc = st:serve("runtime")
    local prefix = load.sessions(st.target, SESSIONS) -- a SessionStart and a Proposal each
    load.send({
      target = st.target, prefix = prefix, sessions = SESSIONS, calls = SESSIONS * (ENVELOPES - 2), in_flight = 64,
    })
    proc = restart(report, st, "10 000 open sessions, until it serves", proc)
    for _ = 1, FINISHED / BATCH do load.sessions(st.target, BATCH, TTL_MS) end
    task.sleep(TTL_MS + 1000)
    proc = restart(report, st, "and 100 000 finished ones", proc)
    proc:kill()
    proc:wait(30000)
    st:close()
  end,
}
