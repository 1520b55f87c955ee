-- A session of 100 000 envelopes inside this program: what one more costs, and how long anything holds the loop while
-- its checkpoints are written. The runtime's core without gRPC, on a journal in a temporary directory. In CPU time of
-- the process: other programs do not count.

local task = require("host.task")

local client = require("spec.support.runtime_client")

local LONG, SHORT, AT_ONCE = 100000, 100, 32

local function cpu_ms() return os.clock() * 1000 end

local IDENTITY = { sender = "ann", can_start = true, can_manage = false, observer = false }

local function session_id(number) return string.format("bench-checkpoint-%012d", number) end

local function must(verdict, code, text)
  if verdict == nil then error(code .. ": " .. tostring(text)) end
  return verdict
end

local function start(role, id)
  local envelope = client.start_envelope(id, { ttl_ms = 86400000 })
  envelope.sender, envelope.timestamp_unix_ms = "ann", 0
  return must(role.acceptor:accept(IDENTITY, envelope))
end

-- Sends count evaluations; several per turn of the loop, as a busy server has it. Returns the time it took.
local function send(role, id, count)
  local payload = client.payload("macp.modes.decision.v1.EvaluationPayload", {
    proposal_id = "p1", recommendation = "APPROVE", confidence = 0.5, reason = "measured and found good enough",
  })
  must(role.acceptor:accept(IDENTITY, {
    macp_version = "1.0", mode = "macp.mode.decision.v1", message_type = "Proposal", message_id = "p", session_id = id,
    sender = "ann", timestamp_unix_ms = 0,
    payload = client.payload("macp.modes.decision.v1.ProposalPayload", { proposal_id = "p1", option = "A" }),
  }))
  local began, verdict = cpu_ms(), nil
  for i = 1, count do
    verdict = must(role.acceptor:accept(IDENTITY, {
      macp_version = "1.0", mode = "macp.mode.decision.v1", message_type = "Evaluation", message_id = "m" .. i,
      session_id = id, sender = "ann", timestamp_unix_ms = 0, payload = payload,
    }))
    if i % AT_ONCE == 0 then task.sleep(0) end
  end
  role.log:wait(verdict.lsn)
  return cpu_ms() - began
end

-- The longest time between two turns of the loop while fn runs, and what fn returns.
local function watched(fn)
  local longest, running = 0, true
  local watcher = task.spawn(function()
    local last = cpu_ms()
    while running do
      task.sleep(0)
      local now = cpu_ms()
      longest = math.max(longest, now - last)
      last = now
    end
  end)
  local result = fn()
  running = false
  watcher:join()
  return result, longest
end

return {
  name = "checkpoint",
  about = "one session of 100 000 envelopes against 1 000 of 100, in one process, checkpoints included",
  run = function(report)
    local rig = assert(client.start({ mode_dirs = { "modes" } }))
    local role = rig.role
    local short = watched(function()
      local total = 0
      for i = 1, LONG / SHORT do
        start(role, session_id(i))
        total = total + send(role, session_id(i), SHORT)
      end
      return total
    end)
    start(role, session_id(0))
    local long, longest = watched(function()
      local took = send(role, session_id(0), LONG)
      while role.checkpoints:is_busy() do task.sleep(10) end
      task.sleep(1000)
      return took
    end)
    report:at_most("an envelope of 100 000 against one of 100", long / short, 1.3, "x")
    report:at_most("longest hold of the loop", longest, 10, "ms")
    report:note("  %.1f us against %.1f us; journal of %.1f MiB", long / LONG * 1000, short / LONG * 1000,
      role.journal:stats().bytes / 1048576)
    rig:destroy()
  end,
}
