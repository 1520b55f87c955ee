-- State at any sequence number: GET /runs/:id/replay/state?seq= all over one long run, one request after another.

local sys = require("host.sys")

local json = require("macp.core.json")

local ingest = require("spec.bench.lib.ingest")
local stack = require("spec.bench.lib.stack")

local EVENTS = tonumber(sys.env("BENCH_REPLAY_EVENTS") or 20000)
local REQUESTS = 200

local STEP = 7919 -- a prime: the numbers asked for jump all over the run

-- Times in ms of requests for the state at numbers of `seq_of(i)`, sorted, and CPU time of the plane for each. (yields)
local function times_of(st, pid, run_id, seq_of)
  local times, cpu_before = {}, stack.cpu_ms(pid)
  for i = 1, REQUESTS do
    local began = sys.mono_ms()
    local body, status = st:get("/runs/" .. run_id .. "/replay/state?seq=" .. seq_of(i))
    times[i] = sys.mono_ms() - began
    if status ~= 200 then error("replay/state: " .. status .. " " .. tostring(body)) end
  end
  table.sort(times)
  return times, (stack.cpu_ms(pid) - cpu_before) / REQUESTS
end

return {
  name = "replay_state",
  about = "the state at any sequence number of one run of 20 000 events (BENCH_REPLAY_EVENTS)",
  run = function(report)
    local envelopes = math.ceil(EVENTS / 2) -- two canonical events each
    local st, runtime = ingest.prepare(1, envelopes)
    local result = ingest.observe(st, envelopes)
    local run = json.decode((st:get("/runs?limit=1"))).data[1]
    local last = result.db:query("select max(seq) as seq, count(*) as n from run_events_canonical").rows[1]
    report:note("  %d events, numbered up to %d", last.n, last.seq)
    local pid, began = result.plane.proc:pid(), sys.mono_ms()
    st:get("/runs/" .. run.id .. "/replay/state?seq=" .. last.seq - 1)
    report:note("  the first question of all, which folds the run: %.0f ms", sys.mono_ms() - began)
    for _, case in ipairs({
      { "anywhere", function(i) return 1 + i * STEP % last.seq end },
      { "one after the other", function(i) return math.floor(last.seq / 2) + i end },
    }) do
      local times, cpu = times_of(st, pid, run.id, case[2])
      report:at_most("replay/state " .. case[1] .. " p95", times[math.ceil(#times * 0.95)], 20, "ms")
      report:note("  median %.1f ms, slowest %.0f ms, CPU of the plane %.1f ms", times[math.ceil(#times / 2)],
        times[#times], cpu)
    end
    ingest.finish(st, runtime, result)
  end,
}
