-- What the ingest benchmarks share: fill a runtime while nobody observes, then let a plane observe it all.

local pg = require("host.pg")
local sys = require("host.sys")
local task = require("host.task")

local load = require("spec.bench.lib.load")
local stack = require("spec.bench.lib.stack")

local M = {}

local POLL_MS = 20
local GIVE_UP_MS = 120000

local COUNT = "select count(*) as n from run_events_raw where kind = 'stream-envelope'"

---A stack whose runtime holds `sessions` sessions of `envelopes` accepted envelopes; the plane does not run yet. (yields)
---@return table stack, table runtime process
function M.prepare(sessions, envelopes)
  local st = stack.new({ database = true })
  local runtime = st:serve("runtime")
  local prefix = load.sessions(st.target, sessions)
  load.send({
    target = st.target, prefix = prefix, sessions = sessions, calls = sessions * (envelopes - 2), in_flight = 64,
  })
  return st, runtime
end

---Starts the plane and waits until that many envelopes are committed. (yields)
---@param opts { env: table|nil }|nil of the plane
---@return { seconds: number, cpu_ms: number, plane: table, db: table }
function M.observe(st, expected, opts)
  local db = assert(pg.open({ conninfo = st.database_url, size = 1 }))
  local plane = st:serve("plane", opts)
  local cpu_before = stack.cpu_ms(plane.proc:pid())
  local began = sys.mono_ms()
  local count = 0
  while count < expected do
    if sys.mono_ms() - began > GIVE_UP_MS then error(count .. " of " .. expected .. " envelopes after two minutes") end
    task.sleep(POLL_MS)
    count = assert(db:query(COUNT)).rows[1].n
  end
  return {
    seconds = (sys.mono_ms() - began) / 1000, cpu_ms = stack.cpu_ms(plane.proc:pid()) - cpu_before,
    plane = plane, db = db,
  }
end

---Ends the processes and removes everything. (yields)
function M.finish(st, runtime, result)
  result.db:close()
  result.plane:kill()
  result.plane:wait(30000)
  runtime:kill()
  runtime:wait(30000)
  st:close()
end

return M
