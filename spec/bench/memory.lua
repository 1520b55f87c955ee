-- Resident memory of plane and runtime in one process: idle, with 1 000 live sessions, with 1 000 SSE subscribers.

local task = require("host.task")

local eventually = require("spec.support.eventually")
local json = require("macp.core.json")
local load = require("spec.bench.lib.load")
local stack = require("spec.bench.lib.stack")
local subscribers = require("spec.bench.lib.subscribers")

local SESSIONS, SUBSCRIBERS = 1000, 1000
local SETTLE_MS = 3000

local function settled(process)
  task.sleep(SETTLE_MS)
  return stack.rss_mib(process.proc:pid())
end

local function running(st)
  return json.decode((st:get("/runs?status=running&limit=1"))).total
end

return {
  name = "memory",
  about = "resident memory of plane + runtime: idle, 1 000 live sessions, 1 000 SSE subscribers",
  run = function(report)
    local st = stack.new({ database = true })
    local process = st:serve("plane,runtime")
    report:at_most("idle", settled(process), 40, "MiB")
    local prefix = load.sessions(st.target, SESSIONS)
    load.send({ target = st.target, prefix = prefix, sessions = SESSIONS, calls = SESSIONS * 18, in_flight = 64 })
    eventually(function() return running(st) == SESSIONS end, 60000, "a run for each session")
    report:at_most("1 000 live sessions of 20 envelopes", settled(process), 150, "MiB")
    process:kill()
    process:wait(30000)
    st:close()

    st = stack.new({ database = true })
    process = st:serve("plane,runtime")
    load.sessions(st.target, 1)
    local run = eventually(function() return json.decode((st:get("/runs?status=running"))).data[1] end, 10000, "a run")
    local subs = subscribers.open({
      port = st.http_port, run_id = run.id, count = SUBSCRIBERS, on_piece = function() end, query = "",
    })
    report:at_most("1 000 SSE subscribers", settled(process), 100, "MiB")
    subs:close()
    process:kill()
    process:wait(30000)
    st:close()
  end,
}
