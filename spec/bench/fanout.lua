-- SSE fan-out: 200 subscribers of one run while envelopes come as fast as they are accepted.

local child = require("host.child")

local json = require("macp.core.json")
local live_run = require("spec.bench.lib.live")
local load = require("spec.bench.lib.load")

local SUBSCRIBERS, ENVELOPES = 200, 2000
local EVENTS_PER_ENVELOPE = 2 -- message.received and the derived event

return {
  name = "fanout",
  about = "SSE fan-out: events delivered per second to 200 subscribers of one run",
  run = function(report)
    local live = live_run.start()
    local proc = assert(child.spawn({
      file = load.programs() .. "/sse_drain", stdout = "pipe", stderr = "inherit",
      args = {
        tostring(live.stack.http_port), "/runs/" .. live.run_id .. "/stream?includeSnapshot=false",
        tostring(SUBSCRIBERS), tostring(ENVELOPES * EVENTS_PER_ENVELOPE),
      },
    }))
    assert(proc:read_line("stdout") == "ready")
    live_run.burst(live, ENVELOPES)
    local result = json.decode(proc:read_line("stdout"))
    proc:wait()
    proc:close()
    if result.complete < SUBSCRIBERS then error("only " .. result.complete .. " subscribers got everything") end
    report:at_least("events delivered", result.rate, 100000, "/s", "http")
    report:note("  %d events in %.2f s", result.events, result.seconds)
    live_run.finish(live)
  end,
}
