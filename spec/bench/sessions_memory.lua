-- Memory per session of the runtime: open and idle, and finished and evicted.

local task = require("host.task")

local load = require("spec.bench.lib.load")
local stack = require("spec.bench.lib.stack")

local SESSIONS = 10000
local SETTLE_MS = 3000
local TTL_MS = 2000

local function settled(process)
  task.sleep(SETTLE_MS)
  return stack.rss_mib(process.proc:pid())
end

local function per_session(before, after) return math.max(0, after - before) * 1024 / SESSIONS end

return {
  name = "sessions_memory",
  about = "resident memory of the runtime per session: 10 000 open and idle, 10 000 finished and evicted",
  run = function(report)
    local st = stack.new()
    local process = st:serve("runtime", { env = { MACP_SESSION_RETENTION_SECS = "0" } })
    load.sessions(st.target, SESSIONS / 2) -- what is only taken once
    local idle = settled(process)
    load.sessions(st.target, SESSIONS)
    report:at_most("open, two envelopes, no streams", per_session(idle, settled(process)), 8, "KiB")
    load.sessions(st.target, SESSIONS, TTL_MS) -- the room that so many at the same time take
    task.sleep(TTL_MS)
    local before = settled(process)
    load.sessions(st.target, SESSIONS, TTL_MS)
    task.sleep(TTL_MS)
    report:at_most("finished and evicted", per_session(before, settled(process)), 1, "KiB")
    report:note("  resident: idle %.0f MiB, at the end %.0f MiB", idle, stack.rss_mib(process.proc:pid()))
    process:kill()
    process:wait(30000)
    st:close()
  end,
}
