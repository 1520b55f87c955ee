-- POST /runs over 64 connections: every answer says that the run is stored. Nobody opens the sessions, so the plane
-- asks the runtime for them meanwhile.

local fs = require("host.fs")
local pg = require("host.pg")
local sys = require("host.sys")

local json = require("macp.core.json")

local stack = require("spec.bench.lib.stack")
local wrk = require("spec.bench.lib.wrk")

local CONNECTIONS = 64
local SECONDS = tonumber(sys.env("BENCH_SECONDS") or 5)

local SCRIPT = [[
wrk.method, wrk.path, wrk.body = "POST", "/runs", %q
wrk.headers["content-type"] = "application/json"]]

local BODY = json.encode({
  mode = "live", runtime = { kind = "rust" },
  session = { modeName = "macp.mode.decision.v1", modeVersion = "1.0.0", configurationVersion = "config.default",
    ttlMs = 60000, participants = { { id = "ann" }, { id = "bob" } } },
})

return {
  name = "launch",
  about = "POST /runs, 64 connections; BENCH_SECONDS sets for how long",
  run = function(report)
    local st = stack.new({ database = true })
    local runtime = st:serve("runtime")
    local plane = st:serve("plane")
    assert(fs.write(st.dir .. "/post.lua", SCRIPT:format(BODY), { sync = false }))
    local before = stack.cpu_ms(plane.proc:pid())
    local result = wrk.run(st.url .. "/runs", { connections = CONNECTIONS, seconds = SECONDS,
      script = st.dir .. "/post.lua" })
    local cpu_ms = stack.cpu_ms(plane.proc:pid()) - before
    local db = assert(pg.open({ conninfo = st.database_url, size = 1 }))
    local stored = assert(db:query([[select count(*) as n from runs r where exists (select 1 from run_events_canonical e
      where e.tenant = r.tenant and e.run_id = r.id and e.type = 'run.created')]])).rows[1].n
    db:close()
    for _, proc in ipairs({ plane, runtime }) do proc:crash() end
    st:close()
    if result.errors > 0 then error(result.errors .. " failed requests\n" .. result.output) end
    local answered = tonumber(result.output:match("(%d+) requests in"))
    if stored < answered then error(string.format("%d answers, %d stored runs", answered, stored)) end
    report:at_least("POST /runs, 64 connections", result.rate, 3000, "/s", "commit")
    report:note("  %d runs, %.0f us of the plane's processor time each", answered, cpu_ms * 1000 / answered)
  end,
}
