-- The database or the runtime is away for some seconds, or readers do not read: everybody else goes on, and afterwards
-- nothing is missing or there twice.

local crypto = require("host.crypto")
local net = require("host.net")
local sys = require("host.sys")
local task = require("host.task")

local agreement = require("spec.support.agreement")
local client = require("spec.support.runtime_client")
local event_lists = require("spec.support.event_lists")
local eventually = require("spec.support.eventually")
local system = require("spec.support.system")
local workers = require("spec.support.workers")

local AWAY_MS = 2000

local function proposal(name, rationale)
  return client.payload("macp.modes.decision.v1.ProposalPayload",
    { proposal_id = name, option = "A", rationale = rationale or "" })
end

local function open_session(runtime)
  local id = crypto.uuid4()
  assert(runtime:client():send("boss", client.start_envelope(id, { ttl_ms = 3600000 })).ok)
  return id
end

local function await_running(world, id)
  eventually(function()
    local status, run = world:get("/runs/" .. id)
    return status == 200 and run.status == "running", run and run.status or status
  end, 20000, "run of " .. id)
end

-- A sender that never stops by itself: sender.stop = true ends it; sender.sent is how many were accepted.
local function keep_sending(runtime, id)
  local sender = { sent = 0, stop = false, slowest_ms = 0 }
  local rig = runtime:client()
  sender.task = task.spawn(function()
    while not sender.stop do
      local name = "m" .. sender.sent + 1
      local began = sys.mono_ms()
      assert(rig:send("ann", client.envelope({ session_id = id, message_id = name, payload = proposal(name) })).ok)
      sender.slowest_ms = math.max(sender.slowest_ms, sys.mono_ms() - began)
      sender.sent = sender.sent + 1
      task.sleep(5)
    end
    return true
  end)
  return sender
end

-- The numbers seen are the first ones stored, without a gap or a repetition.
local function assert_prefix(stored, seen)
  for i, seq in ipairs(seen) do
    if stored[i] ~= seq then
      error(string.format("event %d: %s seen, %s stored (%d seen, %d stored)", i, seq, tostring(stored[i]), #seen,
        #stored), 2)
    end
  end
end

-- Everything agrees once the plane has caught up. (yields)
local function check(world, runtime, id)
  local ids = runtime:history(id)
  agreement.await(world, id, #ids)
  agreement.projection(world, id)
  agreement.stored(world, id, ids)
  return ids
end

local function is_away(world, method, path, body)
  local status, problem = world:request(method, path, body)
  return status == 503 and problem.errorCode == "SERVICE_UNAVAILABLE", status
end

describe("a database that is away", function()
  it("stops neither the runtime nor its senders, is told as 503, and is caught up with", function()
    system.with(nil, function(world)
      local id = open_session(world)
      await_running(world, id)
      local stream = world:stream("/runs/" .. id .. "/stream?includeSnapshot=false&afterSeq=0")
      local reader = task.spawn(function() return stream:read_until('"messageId":"last"') end)
      local sender = keep_sending(world, id)
      eventually(function() return sender.sent > 20 end, 5000)

      world:crash_database()
      local at_crash, began = sender.sent, sys.mono_ms()
      local born_away = open_session(world)
      assert.is_true(is_away(world, "GET", "/runs/" .. crypto.uuid4()))
      assert.is_true(is_away(world, "GET", "/runs/" .. id .. "/events"))
      assert.is_true(is_away(world, "GET", "/runs"))
      assert.is_true(is_away(world, "POST", "/runs", { mode = "live", runtime = { kind = "rust" }, session = {
        sessionId = crypto.uuid4(), modeName = "macp.mode.decision.v1", modeVersion = "1.0.0",
        configurationVersion = "config.default", ttlMs = 60000, participants = { { id = "ann" } } } }))
      assert.is_true(is_away(world, "GET", "/runs/" .. id .. "/state")) -- waits for a commit, but not for ever
      assert.is_true(sys.mono_ms() - began < 40000)
      assert.equal(200, (world:get("/healthz")))
      eventually(function()
        local status, body = world:get("/readyz")
        return status == 503 and body.database == "unhealthy"
      end, 8000, "readyz 503")
      task.sleep(math.max(0, AWAY_MS - (sys.mono_ms() - began)))
      assert.is_true(sender.sent > at_crash + 20, sender.sent .. " of " .. at_crash)
      assert.is_true(sender.slowest_ms < 1000, tostring(sender.slowest_ms))

      world:start_database()
      eventually(function() return world:get("/readyz") == 200 end, 20000, "readyz 200")
      sender.stop = true
      assert.is_true(sender.task:join())
      assert.is_true(world:client():send("ann", client.envelope({
        session_id = id, message_id = "last", payload = proposal("last") })).ok)
      assert.equal(sender.sent + 2, #check(world, world, id))
      await_running(world, born_away)
      assert.equal(1, #check(world, world, born_away))
      assert.is_true(reader:join())
      local stored = event_lists.seqs(world:events(id))
      local seen = stream:seqs()
      assert_prefix(stored, seen)
      assert.is_true(#seen >= #stored - 3)
      stream:close()
      world:stop()
    end)
  end)
end)

describe("a runtime that is away", function()
  it("P5: is told as 503 while what is stored is served, and observed on when it is back", function()
    system.with({ database = false, role = "runtime" }, function(runtime)
      system.with({ role = "plane", env = {
        RUNTIME_ADDRESS = runtime.address, RUNTIME_CIRCUIT_BREAKER_RESET_MS = "500",
        RUNTIME_CIRCUIT_BREAKER_THRESHOLD = "3",
      } }, function(world)
        local id = open_session(runtime)
        await_running(world, id)
        local sender = keep_sending(runtime, id)
        eventually(function() return sender.sent > 20 end, 5000)
        sender.stop = true
        sender.task:join()
        runtime:disconnect()
        runtime:crash()
        eventually(function() return world:get("/readyz") == 503 end, 10000, "readyz 503")
        local status, problem = world:get("/runtime/manifest")
        assert.equal(503, status)
        assert.is_true(problem.errorCode == "RUNTIME_UNAVAILABLE" or problem.errorCode == "CIRCUIT_BREAKER_OPEN")
        assert.equal(200, (world:get("/runs/" .. id .. "/state")))
        assert.equal(200, (world:get("/runs/" .. id)))
        task.sleep(AWAY_MS / 2)

        runtime:serve()
        for i = 1, 20 do
          local name = "after-" .. i
          assert.is_true(runtime:client():send("bob", client.envelope({
            session_id = id, message_id = name, payload = proposal(name) })).ok)
        end
        local later = open_session(runtime)
        assert.equal(sender.sent + 21, #check(world, runtime, id))
        await_running(world, later)
        eventually(function() return world:get("/readyz") == 200 end, 10000, "readyz 200")
        local statuses = {}
        for _, event in ipairs(world:events(id)) do
          if event.type == "session.stream.opened" then statuses[#statuses + 1] = event.data.status end
        end
        assert.same({ "opened", "reconnecting", "opened" }, statuses)
        world:stop()
      end)
      runtime:stop()
    end)
  end)
end)

describe("event streams that nobody reads", function()
  local READERS = 30
  local MESSAGES = 300 -- with two events each: more than a socket's buffers take
  local SENDERS = 16
  local TEXT = ("x"):rep(20000)

  -- Reads a stream to the message `last`, resuming whenever it ends before; the numbers of all its events.
  local function read_all(world, id, first)
    local seqs, stream = {}, first
    for _ = 1, 10 do
      local done = stream:read_until('"messageId":"last"')
      for _, seq in ipairs(stream:seqs()) do seqs[#seqs + 1] = seq end
      stream:close()
      if done then return seqs end
      stream = world:stream("/runs/" .. id .. "/stream?includeSnapshot=false",
        { ["last-event-id"] = tostring(seqs[#seqs] or 0) })
    end
    error("the stream never reaches the last message")
  end

  -- All messages, several at a time; the one that is called `last` comes last. (yields)
  local function send_many(rig, id)
    local function send(name)
      assert(rig:send("ann", client.envelope({ session_id = id, message_id = name,
        payload = proposal(name, TEXT) })).ok)
    end
    workers.each(MESSAGES - 1, SENDERS, function(i) send("m" .. i) end)
    send("last")
  end

  it("P23: cost bounded memory, delay nobody, and have everything to read later", function()
    system.with({ env = { STREAM_SSE_HEARTBEAT_MS = "60000" } }, function(world)
      local id = open_session(world)
      await_running(world, id)
      local path = "/runs/" .. id .. "/stream?includeSnapshot=false&afterSeq=0"
      local sleepers, late = {}, {}
      for i = 1, READERS do
        sleepers[i] = assert(net.connect("127.0.0.1", world.http_port))
        assert(sleepers[i]:write("GET " .. path .. " HTTP/1.1\r\nHost: test\r\n\r\n"))
      end
      late[1] = world:stream(path)
      local awake = world:stream(path)
      eventually(function()
        return select(4, world:get("/metrics")):find("active_sse_connections " .. READERS + 2, 1, true)
      end, 10000, "open streams")
      local before = world:rss_mib()
      local reader = task.spawn(read_all, world, id, awake)
      send_many(world:client(), id)
      local finished = sys.mono_ms()
      local seen = assert(reader:join())
      assert.is_true(sys.mono_ms() - finished < 30000)
      local grown = world:rss_mib() - before
      -- A reader may hold some pieces; all of them at once would be 12 MiB each.
      assert.is_true(system.is_slow or grown < 40 + 4 * READERS, grown .. " MiB more for " .. READERS .. " streams")
      -- Some may still have been reading what is stored: they wait there, and are not counted.
      eventually(function()
        return tonumber((select(4, world:get("/metrics")):match("macp_sse_dropped_total (%d+)"))) >= 1
      end, 10000, "that streams are told to have fallen behind")
      local stored = event_lists.seqs(world:events(id))
      assert.is_true(#seen > MESSAGES)
      assert_prefix(stored, seen)
      for _, stream in ipairs(late) do assert_prefix(stored, read_all(world, id, stream)) end
      for _, socket in ipairs(sleepers) do socket:close() end
      world:stop()
    end)
  end)
end)
