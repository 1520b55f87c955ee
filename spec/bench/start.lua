-- Start-up: serve with PostgreSQL up, and dev on existing data.

local fetch = require("host.fetch")
local sys = require("host.sys")
local task = require("host.task")

local program = require("spec.support.program")
local stack = require("spec.bench.lib.stack")

local ROUNDS = 5

-- Milliseconds from now until GET url answers 200. (yields)
local function until_ready(began, url, proc)
  while true do
    local reply = fetch.request({ url = url, timeout_ms = 1000 })
    if reply and reply.status == 200 then return sys.mono_ms() - began end
    if proc.status then error("the program ended:\n" .. proc:output()) end
    task.sleep(2)
  end
end

local function serve(report)
  local st = stack.new({ database = true })
  local best = math.huge
  for _ = 1, ROUNDS do
    local began = sys.mono_ms()
    local proc = st:serve_unwaited("plane,runtime")
    best = math.min(best, until_ready(began, st.url .. "/readyz", proc))
    proc:kill()
    proc:wait()
  end
  st:close()
  report:at_most("macp serve until ready, best of " .. ROUNDS, best, 150, "ms")
end

local function dev(report)
  local st = stack.new()
  local args = {
    "dev", "--no-demo", "--data", st.dir .. "/dev", "--port", tostring(st.http_port),
    "--grpc-port", tostring(st.grpc_port),
  }
  local took
  for _ = 1, 2 do -- the first start makes the data
    local began = sys.mono_ms()
    local proc = program.start({ args = args, env = { MACP_LOG_LEVEL = "warn" } })
    took = until_ready(began, st.url .. "/readyz", proc)
    proc:kill("INT")
    proc:wait(30000)
  end
  st:close()
  report:at_most("macp dev on existing data until ready", took / 1000, 2, "s")
end

return {
  name = "start",
  about = "start of serve (PostgreSQL up) and of dev (existing data) until ready",
  run = function(report)
    serve(report)
    dev(report)
  end,
}
