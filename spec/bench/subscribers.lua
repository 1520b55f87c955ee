-- A crowd of SSE clients spread over many live runs, in a process of their own. BENCH_SUBSCRIBERS, BENCH_RUNS and
-- BENCH_SECONDS set the size; the figures are for 5 000 over 500. An event's age counts from before its Send.

local child = require("host.child")
local fs = require("host.fs")
local sys = require("host.sys")
local task = require("host.task")

local eventually = require("spec.support.eventually")
local json = require("macp.core.json")

local load = require("spec.bench.lib.load")
local stack = require("spec.bench.lib.stack")

local SUBSCRIBERS = tonumber(sys.env("BENCH_SUBSCRIBERS") or 1000)
local RUNS = tonumber(sys.env("BENCH_RUNS") or 100)
local SECONDS = tonumber(sys.env("BENCH_SECONDS") or 8)
local EVENTS_PER_S = 1000 -- in all
local EVENTS_PER_ENVELOPE = 2

-- Runs of the sessions of a prefix, once all are observed. (yields)
local function await_runs(st, count)
  return eventually(function()
    local ids, offset = {}, 0
    repeat
      local page = json.decode((st:get("/runs?limit=100&status=running&offset=" .. offset)))
      for _, run in ipairs(page.data) do ids[#ids + 1] = run.id end
      offset = offset + 100
    until #page.data < 100
    return #ids == count and ids, #ids
  end, 60000, "the runs of the sessions")
end

-- Sends to the sessions in turn at a steady rate, each the same number of times. (yields)
local function emit(st, prefix, rounds)
  local client, sessions = load.client(st.target), {}
  for i = 1, RUNS do
    sessions[i] = client:session(load.MODE, { session_id = prefix .. string.format("%06d", i - 1) })
  end
  local payload = { proposal_id = "p1", recommendation = "APPROVE", confidence = 0.5, reason = "found good" }
  local per_s, began, number = EVENTS_PER_S / EVENTS_PER_ENVELOPE, sys.mono_ms(), 0
  assert(task.group(function(group)
    for _ = 1, rounds do
      for _, session in ipairs(sessions) do
        local wait = began + number / per_s * 1000 - sys.mono_ms()
        if wait > 0.5 then task.sleep(wait) end
        number = number + 1
        local id = string.format("t%.0f-%d", sys.now_ms(), number)
        group:spawn(function() return session:send("Evaluation", payload, { message_id = id }) end)
      end
    end
  end))
  local seconds = (sys.mono_ms() - began) / 1000
  for _, session in ipairs(sessions) do session:close() end
  client:close()
  return seconds
end

return {
  name = "subscribers",
  about = string.format("%d SSE clients over %d runs at %d events/s; BENCH_SUBSCRIBERS=5000 BENCH_RUNS=500 for the "
    .. "full figures", SUBSCRIBERS, RUNS, EVENTS_PER_S),
  run = function(report)
    local st = stack.new({ database = true })
    local runtime = st:serve("runtime")
    local plane = st:serve("plane")
    local prefix = load.sessions(st.target, RUNS)
    local ids, paths = await_runs(st, RUNS), {}
    task.sleep(1500) -- what the sessions began with is stored and published
    for i, id in ipairs(ids) do paths[i] = "/runs/" .. id .. "/stream?includeSnapshot=false\n" end
    assert(fs.write(st.dir .. "/paths", table.concat(paths), { sync = false }))
    local rounds = math.max(1, math.floor(SECONDS * EVENTS_PER_S / EVENTS_PER_ENVELOPE / RUNS))
    local crowd = assert(child.spawn({ file = load.programs() .. "/sse_crowd", stdout = "pipe", stderr = "inherit",
      args = { tostring(st.http_port), st.dir .. "/paths", tostring(SUBSCRIBERS),
        tostring(rounds * EVENTS_PER_ENVELOPE) } }))
    if crowd:read_line("stdout") ~= "ready" then error("not all clients were served:\n" .. plane:output()) end
    task.sleep(1500) -- all of them are on the live tail
    local before = stack.cpu_ms(plane.proc:pid())
    local seconds = emit(st, prefix, rounds)
    local result = json.decode(crowd:read_line("stdout"))
    local cpu_ms, rss = stack.cpu_ms(plane.proc:pid()) - before, stack.rss_mib(plane.proc:pid())
    crowd:wait()
    crowd:close()
    for _, proc in ipairs({ plane, runtime }) do proc:crash() end
    st:close()
    if result.complete < SUBSCRIBERS then
      error(string.format("%d of %d clients got everything once", result.complete, SUBSCRIBERS))
    end
    report:at_most(SUBSCRIBERS .. " clients, p99 of an event's age", result.p99, 100, "ms")
    report:at_most("resident memory of the plane", rss, 200, "MiB")
    report:note("  %d deliveries in %.1f s, p50 %d ms, %.1f us of the plane's processor time each", result.events,
      seconds, result.p50, cpu_ms * 1000 / result.events)
  end,
}
