-- Ten thousand open sessions survive kill -9, and the start after it takes seconds: in time of the processor, so that a
-- busy machine does not count.

local fs = require("host.fs")

local client = require("spec.support.runtime_client")
local json = require("macp.core.json")
local messages = require("macp.protocol.messages")
local system = require("spec.support.system")
local workers = require("spec.support.workers")

local SESSIONS, AT_ONCE = 10000, 128
local MAX_CPU_MS = 5000
local TICK_MS = 10 -- of /proc

local SEND = messages.rpc("Send").path
local NUMBERS = { enums = "number" }
local REQUEST, RESPONSE = messages.codec("macp.v1.SendRequest"), messages.codec("macp.v1.SendResponse", NUMBERS)

local function id_of(i) return string.format("00000000-0000-4000-8000-%012d", i) end

-- fn(i) for every session, many at a time. (yields)
local function for_all(fn) workers.each(SESSIONS, AT_ONCE, fn) end

-- Sends an envelope that must be accepted; returns its ack. (yields)
local function send(rig, token, envelope)
  local answer, err = rig.channel:unary(SEND, assert(REQUEST:encode({ envelope = envelope })),
    { metadata = { authorization = "Bearer " .. token }, timeout_ms = 120000 })
  if answer == nil then error(err.message) end
  local ack = assert(RESPONSE:decode(answer)).ack
  if not ack.ok then error(ack.error.code .. ": " .. ack.error.message) end
  return ack
end

local function open_all(rig)
  local start = client.start_envelope("", { ttl_ms = 86400000 }).payload
  for_all(function(i)
    send(rig, "boss", client.envelope({ message_type = "SessionStart", message_id = "start", session_id = id_of(i),
      payload = start }))
  end)
end

local function proposal(i)
  return client.envelope({ session_id = id_of(i), message_id = "p1",
    payload = client.payload("macp.modes.decision.v1.ProposalPayload", { proposal_id = "p" .. i, option = "A" }) })
end

-- User and system time of a process so far. (yields)
local function cpu_ms(pid)
  local stat = assert(fs.read("/proc/" .. pid .. "/stat"))
  local user, sys_time = stat:match("%) %S+" .. (" %S+"):rep(10) .. " (%d+) (%d+)")
  return (tonumber(user) + tonumber(sys_time)) * TICK_MS
end

describe("the start after kill -9", function()
  local sys_under_test

  setup(function()
    sys_under_test = system.new({ role = "runtime", database = false })
    sys_under_test:serve({ MACP_LOG_LEVEL = "warn" })
  end)
  teardown(function() sys_under_test:close() end)

  it("W20: brings ten thousand open sessions back within five seconds, and each of them answers", function()
    local rig = sys_under_test:client()
    open_all(rig)
    for_all(function(i) send(rig, "ann", proposal(i)) end)
    sys_under_test:disconnect()
    sys_under_test:crash()
    local program = sys_under_test:serve()
    local took = cpu_ms(program.proc:pid())
    local told = json.decode(program:wait_line("^(.*\"recovery%.done\".*)$"))
    assert.same({ SESSIONS, SESSIONS, 0, 0 }, { told.in_memory, told.loaded, told.finished, told.skipped })
    if not system.is_slow then
      assert.is_true(took <= MAX_CPU_MS, "it took " .. took .. " ms of the processor until it served")
    end
    rig = sys_under_test:client()
    for_all(function(i) -- what was acknowledged is known, by every session
      local ack = send(rig, "ann", proposal(i))
      assert(ack.duplicate and ack.session_state == 1, id_of(i))
    end)
  end)
end)
