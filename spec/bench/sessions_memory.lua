-- Memory per session of the runtime: open and idle, and finished and evicted.

local task = require("host.task")

local load = require("spec.bench.lib.load")
local stack = require("spec.bench.lib.stack")

local SESSIONS = 10000
local WARM_ROUNDS, FINISHED_ROUNDS = 4, 8 -- of SESSIONS each: what they leave must show beside what one burst takes and gives back
local SETTLE_MS, SETTLES = 5000, 12 -- collected, and given back
local TTL_MS = 2000
local KIB = 1024

-- Resident memory once it falls no more: sessions end, are compacted and leave one after another. (yields)
local function settled(process)
  local resident = math.huge
  for _ = 1, SETTLES do
    task.sleep(SETTLE_MS)
    local now = stack.rss_mib(process.proc:pid())
    if now > resident - 0.5 then return now end
    resident = now
  end
  return resident
end

local function each_kib(before, after, sessions) return math.max(0, after - before) * KIB / sessions end

-- Measures on a runtime of its own. (yields)
local function with_runtime(body)
  local st = stack.new()
  local process = st:serve("runtime", { env = { MACP_SESSION_RETENTION_SECS = "0" } })
  body(st, process)
  process:kill()
  process:wait(30000)
  st:close()
end

-- Sessions that end and leave memory. (yields)
local function finish(st)
  load.sessions(st.target, SESSIONS, TTL_MS)
  task.sleep(TTL_MS)
end

return {
  name = "sessions_memory",
  about = "resident memory of the runtime per session: 10 000 open and idle, 80 000 finished and evicted",
  run = function(report)
    with_runtime(function(st, process)
      load.sessions(st.target, SESSIONS / 2) -- what is only taken once
      local idle = settled(process)
      load.sessions(st.target, SESSIONS)
      report:at_most("open, two envelopes, no streams", each_kib(idle, settled(process), SESSIONS), 8, "KiB")
    end)
    with_runtime(function(st, process)
      for _ = 1, WARM_ROUNDS do finish(st) end -- the room that so many at the same time take
      local before = settled(process)
      for _ = 1, FINISHED_ROUNDS do finish(st) end
      local sessions, after = FINISHED_ROUNDS * SESSIONS, settled(process)
      report:at_most("finished: what is left of its key", each_kib(before, after, sessions), 0.06, "KiB")
      report:note("  resident: %.1f MiB, then %.1f MiB", before, after)
    end)
  end,
}
