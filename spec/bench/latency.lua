-- Latency: from Send at an agent to the event at an SSE client, 200 envelopes/s, with 1 and with 200 subscribers.

local sys = require("host.sys")
local task = require("host.task")

local live_run = require("spec.bench.lib.live")
local subscribers = require("spec.bench.lib.subscribers")

local RATE, SECONDS, WARM_SECONDS = 200, 8, 2

local function percentile(values, share)
  table.sort(values)
  return values[math.max(1, math.ceil(#values * share))]
end

-- The first subscriber is measured; the others are load. The clock starts before Send is called, so the time of the
-- acceptance and its flush is in the figure.
local function measure(live, count)
  local sent, took = {}, {}
  local tail = ""
  local subs = subscribers.open({
    port = live.stack.http_port, run_id = live.run_id, count = count,
    on_piece = function(piece, index)
      if index ~= 1 then return end
      local now = sys.mono_ms()
      local text = tail .. piece
      for id in text:gmatch('"messageId":"(e%d+)"') do
        if sent[id] then
          took[#took + 1] = now - sent[id]
          sent[id] = nil
        end
      end
      tail = text:sub(-64)
    end,
  })
  live_run.emit(live, { rate = RATE, seconds = WARM_SECONDS, first = 0, before = function() end })
  task.sleep(500)
  local total = live_run.emit(live, {
    rate = RATE, seconds = SECONDS, first = 100000, before = function(id, at) sent[id] = at end,
  })
  task.sleep(1000)
  subs:close()
  return took, total
end

return {
  name = "latency",
  about = "emission at the runtime until the SSE client has it, 200 envelopes/s",
  run = function(report)
    for _, case in ipairs({ { 1, 10 }, { 200, 25 } }) do
      local live = live_run.start()
      local took, total = measure(live, case[1])
      if #took < total then error(string.format("%d of %d events arrived", #took, total)) end
      report:at_most(string.format("p99 with %d subscriber(s)", case[1]), percentile(took, 0.99), case[2], "ms")
      report:note("  p50 %.1f ms, %d events", percentile(took, 0.5), total)
      live_run.finish(live)
    end
  end,
}
