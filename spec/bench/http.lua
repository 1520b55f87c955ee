-- REST: health, one run, the state of a live run; 32 connections each.

local eventually = require("spec.support.eventually")
local json = require("macp.core.json")

local load = require("spec.bench.lib.load")
local stack = require("spec.bench.lib.stack")
local wrk = require("spec.bench.lib.wrk")

local SECONDS = 5

return {
  name = "http",
  about = "GET /healthz, /runs/:id and /runs/:id/state of a live run, 32 connections",
  run = function(report)
    local st = stack.new({ database = true })
    local proc = st:serve("plane,runtime")
    local prefix = load.sessions(st.target, 1)
    load.send({ target = st.target, prefix = prefix, sessions = 1, calls = 40, in_flight = 1 })
    local run = eventually(function()
      local page = json.decode((st:get("/runs?limit=10")))
      local first = page.data[1]
      return first and first.status == "running" and first.lastEventSeq > 40 and first
    end, 10000, "the run of the session")
    local function measure(name, path, bound)
      local result = wrk.run(st.url .. path, { connections = 32, seconds = SECONDS })
      if result.errors > 0 then error(path .. ": " .. result.errors .. " failed requests\n" .. result.output) end
      report:at_least(name, result.rate, bound, "/s", "http")
    end
    measure("GET /healthz", "/healthz", 40000)
    measure("GET /runs/:id", "/runs/" .. run.id, 8000)
    measure("GET /runs/:id/state", "/runs/" .. run.id .. "/state", 15000)
    proc:kill()
    proc:wait()
    st:close()
  end,
}
