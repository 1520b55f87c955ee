-- What a message and a read cost as a session grows, measured on the real program: processor time and resident memory as
-- the kernel counts them, flushes of the journal. Bounds are several times what is measured, and far below what growth would cost.

local fetch = require("host.fetch")
local fs = require("host.fs")
local task = require("host.task")

local acceptance = require("spec.support.acceptance")
local crypto = require("host.crypto")
local journal_stores = require("spec.support.journal_stores")
local ports = require("spec.support.ports")

local ANN, BOB = "agent://ann", "agent://bob"
local SLOW = require("spec.support.system").is_slow
local MIB = 1024 * 1024

local LIMITS = { MACP_MEMORY_ONLY = "0", MACP_SESSION_START_LIMIT_PER_MINUTE = "1000000000",
  MACP_MESSAGE_LIMIT_PER_MINUTE = "1000000000" }

local function with_program(more, fn)
  acceptance.with_dir(function(dir)
    local env = { MACP_DATA_DIR = dir }
    for _, source in ipairs({ LIMITS, more }) do
      for name, value in pairs(source) do env[name] = value end
    end
    acceptance.with({ env = env }, fn)
  end)
end

-- Processor time of the program so far, in clock ticks of 10 ms.
local function ticks(at)
  local fields = {}
  local stat = assert(fs.read("/proc/" .. at.proc:pid() .. "/stat")):match("%) (.*)$")
  for word in stat:gmatch("%S+") do fields[#fields + 1] = word end
  return tonumber(fields[12]) + tonumber(fields[13])
end

-- A line of /proc/PID/status in MiB: VmRSS, or VmHWM, the highest so far.
local function memory_mib(at, name)
  local text = assert(fs.read("/proc/" .. at.proc:pid() .. "/status"))
  return tonumber(text:match(name .. ":%s*(%d+)")) / 1024
end

-- Runs fn(i) for i = 1..n in `width` tasks. (yields)
local function in_parallel(n, width, fn)
  local next_i, workers = 0, {}
  for w = 1, width do
    workers[w] = task.spawn(function()
      while next_i < n do
        next_i = next_i + 1
        fn(next_i)
      end
    end)
  end
  for _, worker in ipairs(workers) do worker:join() end
end

-- Flushes of the journal so far, as the metrics tell.
local function flushes_of(port)
  local reply = assert(fetch.request({ url = "http://127.0.0.1:" .. port .. "/metrics" }))
  return tonumber(tostring(reply.body):match('macp_runtime_journal_flushes{result="ok"} (%d+)'))
end

local function evaluate(session)
  session:tell(ANN, "Evaluation", { proposal_id = "p1", recommendation = "APPROVE", confidence = 0.5, reason = "r" })
end

-- A session of a registered mode, whose state holds nothing of its payloads. (yields)
local function opaque_session(at)
  local id = "ext.cost.v1"
  assert.is_true(at.rig:call("boss", "RegisterExtMode", { mode_descriptor = { mode = id, mode_version = "1.0.0",
    description = "opaque", message_types = { "Note", "Commitment" }, terminal_message_types = { "Commitment" } } }).ok)
  return at:session({ mode = id })
end

-- A sanitizer keeps freed memory for a while.
local it_in_memory = SLOW and pending or it

describe("the cost", function()
  journal_stores.each(function(name, with_store)
    if name == "redis" then return end -- flushes there are the server's
    it("W1: of many senders is shared: far fewer flushes than acknowledged messages, in " .. name, function()
      with_store(function(env)
        local port = ports.free()
        env.MACP_METRICS_ADDR = "127.0.0.1:" .. port
        with_program(env, function(at)
          local sessions = {}
          for i = 1, 32 do
            sessions[i] = at:session({ mode = "decision" })
            sessions[i]:tell(ANN, "Proposal", { proposal_id = "p1", option = "o" })
          end
          local messages, before = 640, flushes_of(port)
          in_parallel(messages, 32, function(i) evaluate(sessions[i % 32 + 1]) end)
          local flushes = flushes_of(port) - before
          assert.is_true(flushes >= 1, "nothing was flushed")
          -- The faster the disk, and the slower the program (a sanitizer), the fewer messages meet there.
          local most = messages * (SLOW and 0.75 or 0.5)
          assert.is_true(flushes <= most, flushes .. " flushes for " .. messages .. " messages")
        end)
      end)
    end)
  end)

  it_in_memory("W12: in memory does not grow with the payloads of a session", function()
    with_program({ MACP_MAX_PAYLOAD_BYTES = "65536" }, function(at)
      local session = opaque_session(at)
      local bytes = crypto.random(32768)
      in_parallel(200, 8, function() session:tell(ANN, "Note", bytes) end)
      local before = memory_mib(at, "VmRSS")
      in_parallel(2000, 8, function() session:tell(ANN, "Note", bytes) end)
      local grown = memory_mib(at, "VmRSS") - before
      assert.is_true(grown < 20, string.format("%.1f MiB more after 62.5 MiB of payloads", grown))
    end)
  end)

  it("W13 W14: of a message and of a read is the same in a long session", function()
    with_program({}, function(at)
      local function open()
        local session = at:session({ mode = "decision" })
        session:tell(ANN, "Proposal", { proposal_id = "p1", option = "o" })
        return session
      end
      local function cost(fn)
        local began = ticks(at)
        in_parallel(1000, 16, fn)
        return ticks(at) - began
      end
      local warm, long, short = open(), open(), open()
      in_parallel(1000, 16, function() evaluate(warm) end)
      local first = cost(function() evaluate(long) end)
      in_parallel(SLOW and 2000 or 8000, 16, function() evaluate(long) end)
      local last = cost(function() evaluate(long) end)
      assert.is_true(last < 3 * first + 10, string.format("1000 messages took %d ticks, later %d", first, last))
      local read_short = cost(function() short:metadata() end)
      local read_long = cost(function() long:metadata() end)
      assert.is_true(read_long < 3 * read_short + 10,
        string.format("1000 reads took %d ticks of a short session, %d of a long one", read_short, read_long))
    end)
  end)

  it_in_memory("W16: in memory of a large message is a few payloads, however many follow the session", function()
    local size, followers = 4 * MIB, 32
    with_program({ MACP_MAX_PAYLOAD_BYTES = tostring(size + 1024) }, function(at)
      local session = opaque_session(at)
      local streams = {}
      for i = 1, followers do
        streams[i] = at.rig:stream(BOB)
        streams[i]:subscribe(session.id)
        assert(streams[i]:read())
      end
      local before = memory_mib(at, "VmHWM")
      session:tell(ANN, "Note", ("x"):rep(size))
      for _, stream in ipairs(streams) do assert.equal(size, #assert(stream:read()).envelope.payload) end
      local peak = memory_mib(at, "VmHWM") - before
      for _, stream in ipairs(streams) do stream:cancel() end
      assert.is_true(peak < 16 * size / MIB, string.format("%.0f MiB for one message of 4 MiB and %d followers", peak,
        followers))
    end)
  end)
end)
