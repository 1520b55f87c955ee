-- The runtime on a real Redis that is killed, frozen, full, emptied or wanted by two; and killed itself.

local crypto = require("host.crypto")
local rpc = require("host.rpc")
local sys = require("host.sys")
local task = require("host.task")

local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")
local program = require("spec.support.program")
local redis = require("spec.support.redis")
local redis_world = require("spec.support.redis_world")
local system = require("spec.support.system")

local function proposal(name)
  return client.payload("macp.modes.decision.v1.ProposalPayload", { proposal_id = name, option = "A" })
end

local function envelope(session_id, name)
  return client.envelope({ session_id = session_id, message_id = name, payload = proposal(name) })
end

local function start(world, session_id)
  local ack = world:client():send("boss", client.start_envelope(session_id, { ttl_ms = 3600000 }))
  assert(ack.ok, ack.error and ack.error.message)
end

-- Sends one message after the other until stop() or the connection is gone; `acked` lists what was acknowledged,
-- `open` is what was under way at the end.
local function sender(world, session_id, prefix)
  local load = { acked = {}, stopped = false }
  local rig = world:client()
  load.task = task.spawn(function()
    for i = 1, 1000000 do
      if load.stopped then return end
      local name = prefix .. i
      local response = rig:call("ann", "Send", { envelope = envelope(session_id, name) })
      if response == nil or not response.ack.ok then
        load.open, load.refusal = name, response and response.ack.error
        return
      end
      load.acked[#load.acked + 1] = name
    end
  end)
  function load:stop()
    self.stopped = true
    self.task:join()
    assert(self.refusal == nil, self.refusal and self.refusal.message)
  end
  return load
end

-- Why a runtime that does not own its store refuses a message: an ack or, once it has noticed, UNAVAILABLE. (yields)
local function refusal(world, session_id)
  local response, err = world:client():call("ann", "Send", { envelope = envelope(session_id, "late") })
  if response then
    assert.equal("INTERNAL_ERROR", response.ack.error.code)
    return response.ack.error.message
  end
  assert.equal(rpc.status.UNAVAILABLE, err.status)
  return err.message
end

-- The history is what was acknowledged, in order and once, and perhaps what was under way.
local function check_history(world, session_id, loads)
  local ids, at = world:history(session_id), 2
  assert.equal("start", ids[1])
  for _, load in ipairs(loads) do
    for _, name in ipairs(load.acked) do
      assert.equal(name, ids[at])
      at = at + 1
    end
    if load.open and ids[at] == load.open then at = at + 1 end
  end
  assert.equal(#ids, at - 1)
end

if not redis.is_built() then
  describe("a runtime on Redis", function() pending("is tested in builds with hiredis") end)
  return
end

describe("a runtime on Redis", function()
  it("has everything again after an orderly restart", function()
    redis_world.with(function(world, server)
      local id = crypto.uuid4()
      start(world, id)
      for i = 1, 40 do assert.is_true(world:client():send("ann", envelope(id, "m" .. i)).ok) end
      world:stop()
      assert.equal("0", server:command("EXISTS", "macp:journal:lock"))
      world:serve()
      assert.equal(41, #world:history(id))
      assert.is_true(world:client():send("ann", envelope(id, "m7")).duplicate)
      world:stop()
    end)
  end)

  -- Points are only in debug builds; there the program kills itself in the middle of a group.
  local with_points = sys.build == "release" and pending or it
  for _, point in ipairs({ "redis.send", "redis.applied" }) do
    with_points("loses nothing acknowledged when it is killed at " .. point, function()
      redis_world.with(function(world)
        local id, loads = crypto.uuid4(), {}
        start(world, id)
        for round = 1, 4 do
          world:disconnect()
          world:crash()
          world:serve({ MACP_FAULT = point .. "=kill:" .. round * 5 })
          local load = sender(world, id, "r" .. round .. "-")
          load.task:join()
          assert.is_nil(load.refusal)
          assert.is_true(#load.acked >= round)
          loads[#loads + 1] = load
        end
        world:disconnect()
        world.program:wait()
        world:serve()
        check_history(world, id, loads)
        world:stop()
      end)
    end)
  end

  it("W7: goes on without a restart when Redis was killed under load and came back", function()
    redis_world.with(function(world, server)
      local ids, loads = {}, {}
      for i = 1, 4 do
        ids[i] = crypto.uuid4()
        start(world, ids[i])
        loads[i] = sender(world, ids[i], "m")
      end
      for _ = 1, 3 do
        local before = #loads[1].acked
        eventually(function() return #loads[1].acked > before + 20 end, 10000, "messages")
        server:kill()
        task.sleep(200)
        local during = #loads[1].acked
        task.sleep(200)
        assert.equal(during, #loads[1].acked, "acknowledged without a Redis")
        server:start()
      end
      local before = #loads[1].acked
      eventually(function() return #loads[1].acked > before + 20 end, 10000, "messages")
      for i = 1, 4 do
        loads[i]:stop()
        check_history(world, ids[i], { loads[i] })
      end
      assert.truthy(world.program:output():find("redis.back", 1, true))
      world:disconnect()
      world:crash()
      world:serve()
      for i = 1, 4 do check_history(world, ids[i], { loads[i] }) end
      world:stop()
    end)
  end)

  it("waits for a Redis that is slow", function()
    redis_world.with(function(world, server)
      local id = crypto.uuid4()
      start(world, id)
      server:freeze()
      local load = sender(world, id, "m")
      task.sleep(700)
      assert.equal(0, #load.acked)
      server:thaw()
      eventually(function() return #load.acked > 10 end, 10000, "messages")
      load:stop()
      check_history(world, id, { load })
      world:stop()
    end)
  end)

  it("refuses with what Redis says when its memory is full, and accepts again when there is room", function()
    redis_world.with(function(world, server)
      local id, unborn = crypto.uuid4(), crypto.uuid4()
      start(world, id)
      assert.is_true(world:client():send("ann", envelope(id, "m1")).ok)
      server:command("CONFIG", "SET", "maxmemory", "1")
      local ack = world:client():send("ann", envelope(id, "m2"))
      assert.equal("INTERNAL_ERROR", ack.error.code)
      assert.truthy(ack.error.message:find("Redis refuses: OOM command not allowed", 1, true), ack.error.message)
      assert.equal("INTERNAL_ERROR", world:client():send("boss", client.start_envelope(unborn)).error.code)
      assert.same({ "start", "m1" }, (world:history(id)))
      task.sleep(redis_world.LEASE_MS) -- the lease is kept without memory
      assert.equal("1", server:command("EXISTS", "macp:journal:lock"))
      server:command("CONFIG", "SET", "maxmemory", "0")
      assert.is_true(world:client():send("ann", envelope(id, "m2")).ok)
      start(world, unborn)
      assert.same({ "start", "m1", "m2" }, (world:history(id)))
      world:stop()
    end)
  end)

  it("W8: serves all but the session with a record that does not verify; strict, it does not start", function()
    redis_world.with(function(world, server)
      local one, two = crypto.uuid4(), crypto.uuid4()
      start(world, one)
      start(world, two)
      for i = 1, 5 do
        assert.is_true(world:client():send("ann", envelope(one, "one-" .. i)).ok)
        assert.is_true(world:client():send("ann", envelope(two, "two-" .. i)).ok)
      end
      world:stop()
      server:command("LSET", "macp:journal:log:" .. one, "3", "changed by hand")
      world:serve()
      assert.equal(6, #world:history(two))
      assert.is_true(world:client():send("ann", envelope(two, "two-6")).ok)
      assert.is_false(world:client():send("ann", envelope(one, "one-6")).ok)
      assert.is_false(world:client():send("boss", client.start_envelope(one, nil, { message_id = "again" })).ok)
      world:stop()
      local run = program.start({ args = { "serve", "--role", "runtime" }, env = redis_world.environment(server, {
        MACP_ALLOW_INSECURE = "1", MACP_DATA_DIR = world.data, MACP_BIND_ADDR = "127.0.0.1:0",
        MACP_STRICT_RECOVERY = "1",
      }) })
      assert.is_true(run:wait(20000).code ~= 0)
      local said = 'record 4 of key "' .. one .. '" does not match its checksum'
      assert.truthy(run:output():find(said, 1, true), run:output())
    end)
  end)

  it("stops accepting, and says why, when Redis has lost everything", function()
    redis_world.with(function(world, server)
      local id = crypto.uuid4()
      start(world, id)
      server:command("FLUSHALL")
      for _ = 1, 3 do assert.truthy(refusal(world, id):find("has lost records that were stored", 1, true)) end
      assert.truthy(world.program:output():find("redis.fenced", 1, true))
      assert.equal("0", server:command("DBSIZE"))
      world:stop()
    end)
  end)

  it("W7: refuses a second runtime while the first lives, takes over when it does not, and refuses its late writes",
    function()
      redis_world.with(function(world, server)
        local id = crypto.uuid4()
        start(world, id)
        local second = program.start({ args = { "serve", "--role", "runtime" }, env = redis_world.environment(server, {
          MACP_ALLOW_INSECURE = "1", MACP_DATA_DIR = world.data, MACP_BIND_ADDR = "127.0.0.1:0",
        }) })
        assert.is_true(second:wait(10000).code ~= 0)
        local pattern = "the journal at " .. server.url:gsub("%p", "%%%0") .. "%?db=0 is in use by process "
          .. world.program.proc:pid() .. " on "
        assert.truthy(second:output():find(pattern), second:output())
        world.program:kill("STOP")
        system.with({ database = false, role = "runtime", env = redis_world.environment(server) }, function(heir)
          assert.same({ "start" }, (heir:history(id)))
          assert.is_true(heir:client():send("ann", envelope(id, "of-the-heir")).ok)
          world.program:kill("CONT")
          local said = refusal(world, id)
          assert.truthy(said:find("was taken over by process " .. heir.program.proc:pid() .. " on ", 1, true), said)
          assert.same({ "start", "of-the-heir" }, (heir:history(id)))
          heir:stop()
        end)
        world:disconnect()
        world:crash()
      end)
    end)

  it("starts again after its own crash as soon as the lease ends", function()
    redis_world.with(function(world)
      local id = crypto.uuid4()
      start(world, id)
      world:disconnect()
      world:crash()
      local began = sys.mono_ms()
      world:serve()
      assert.is_true(sys.mono_ms() - began < 3 * redis_world.LEASE_MS + 30000)
      assert.truthy(world.program:output():find("redis.held", 1, true))
      assert.same({ "start" }, (world:history(id)))
      world:stop()
    end)
  end)

  it("does not start with a wrong password or without a Redis, and tells no secret", function()
    local server = redis.start()
    server:command("CONFIG", "SET", "requirepass", "right")
    local function try(url)
      local run = program.start({ args = { "serve", "--role", "runtime" }, env = {
        MACP_ALLOW_INSECURE = "1", MACP_DATA_DIR = server.dir .. "/data", MACP_BIND_ADDR = "127.0.0.1:0",
        MACP_STORAGE_BACKEND = "redis", MACP_REDIS_URL = url,
      } })
      assert.is_true(run:wait(15000).code ~= 0)
      assert.is_nil(run:output():find("s3cret", 1, true))
      return run:output()
    end
    local said = try("unix://:s3cret@" .. server.socket)
    assert.truthy(said:find("refuses the password of user `default`: WRONGPASS", 1, true), said)
    said = try(server.url)
    assert.truthy(said:find("NOAUTH", 1, true), said)
    server:kill()
    said = try("unix://:s3cret@" .. server.socket)
    assert.truthy(said:find(": connect: ", 1, true), said)
    server:stop()
  end)

  it("says at the start what a power loss may cost", function()
    redis_world.with(function(world, server)
      assert.is_nil(world.program:output():find("redis.durability", 1, true))
      world:stop()
      server:command("CONFIG", "SET", "appendfsync", "everysec")
      world:serve()
      local words = server:command("INFO", "server"):find("redis_version:7.0", 1, true)
        and "a power loss may lose the last second of acknowledged messages"
      if words then assert.truthy(world.program:output():find(words, 1, true), world.program:output()) end
      world:stop()
      server:command("CONFIG", "SET", "appendonly", "no")
      world:serve()
      assert.truthy(world.program:output():find("has no append-only file", 1, true), world.program:output())
      world:stop()
    end)
  end)
end)
