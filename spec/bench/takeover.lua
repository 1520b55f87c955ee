-- Takeover: kill -9 of one of two planes that observes many live runs, until the other one has stored what was sent
-- meanwhile. BENCH_RUNS sets how many runs; the figure is for 1 000.

local sys = require("host.sys")

local takeover = require("spec.support.takeover")

local RUNS = tonumber(sys.env("BENCH_RUNS") or 200)
local LIMIT_S = 35

return {
  name = "takeover",
  about = "kill -9 of one of two planes with " .. RUNS .. " live runs; BENCH_RUNS=1000 for the full figure",
  run = function(report)
    local two = takeover.start({ runs = RUNS, env = { MACP_LOG_LEVEL = "warn", MACP_ROOT = false } })
    two:talk()
    two:await_stored(60000)
    local began = sys.mono_ms()
    two.a.program:crash()
    two:talk()
    two:await_stored(120000)
    local seconds = (sys.mono_ms() - began) / 1000
    local faults = two:faults()
    two:close()
    if #faults > 0 then error(#faults .. " runs with faults, the first: " .. faults[1]) end
    report:at_most(RUNS .. " runs taken over, nothing lost or twice", seconds, LIMIT_S, "s")
  end,
}
