-- A live run for benchmarks: both roles in one process, one session, its run in the plane, and a paced sender.

local sys = require("host.sys")
local task = require("host.task")

local eventually = require("spec.support.eventually")
local json = require("macp.core.json")

local load = require("spec.bench.lib.load")
local stack = require("spec.bench.lib.stack")

local M = {}

---Starts the stack and a session with its run. (yields)
---@return { stack: table, process: table, session: table, client: table, run_id: string }
function M.start()
  local st = stack.new({ database = true })
  local process = st:serve("plane,runtime")
  local client = load.client(st.target)
  local session = client:session(load.MODE)
  session:start({ intent = "live", participants = { "lead", "ana" }, ttl_ms = 3600000 })
  session:proposal({ proposal_id = "p1", option = "one" })
  local run = eventually(function()
    local page = json.decode((st:get("/runs?limit=10")))
    local first = page.data[1]
    return first and first.status == "running" and first
  end, 10000, "the run of the session")
  return { stack = st, process = process, session = session, client = client, run_id = run.id }
end

---Sends evaluations at a steady rate without waiting for each; calls before(message_id, at_ms) first. (yields)
---@param opts { rate: number, seconds: number, first: integer|nil, before: fun(id: string, at_ms: number) }
function M.emit(live, opts)
  local payload = {
    proposal_id = "p1", recommendation = "APPROVE", confidence = 0.5, reason = "measured and found good enough",
  }
  local total = math.floor(opts.rate * opts.seconds)
  local began = sys.mono_ms()
  local ok, err = task.group(function(group)
    for i = 1, total do
      local due = began + (i - 1) / opts.rate * 1000
      local wait = due - sys.mono_ms()
      if wait > 0.5 then task.sleep(wait) end
      local id = "e" .. string.format("%08d", (opts.first or 0) + i)
      opts.before(id, sys.mono_ms())
      group:spawn(function() live.session:send("Evaluation", payload, { message_id = id }) end)
    end
  end)
  if not ok then error(err) end
  return total
end

---Sends `count` evaluations as fast as the runtime takes them, 64 in flight, with the C client. (yields)
function M.burst(live, count)
  load.send({
    target = live.stack.target, prefix = live.session.session_id, sessions = 1, calls = count, in_flight = 64,
    exact = true,
  })
end

---Ends everything. (yields)
function M.finish(live)
  live.session:close()
  live.client:close()
  live.process:kill()
  live.process:wait(30000)
  live.stack:close()
end

return M
