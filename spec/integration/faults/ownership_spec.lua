-- Two runtimes on one store: the second does not start; one whose store was taken over stops accepting.

local crypto = require("host.crypto")
local fs = require("host.fs")
local rpc = require("host.rpc")

local messages = require("macp.protocol.messages")

local client = require("spec.support.runtime_client")
local program = require("spec.support.program")
local stores = require("spec.support.stores")
local system = require("spec.support.system")

local UNAVAILABLE = rpc.status.UNAVAILABLE
local SERVING, NOT_SERVING = "SERVING", "NOT_SERVING"

local function with_store(store, fn)
  local env = { MACP_CHECKPOINT_INTERVAL = "0" }
  for name, value in pairs(store.env) do env[name] = value end
  system.with({ database = false, role = "runtime", env = env }, fn)
end

local function second(world, store)
  local env = {
    MACP_ALLOW_INSECURE = "1", MACP_DATA_DIR = world.data, MACP_BIND_ADDR = "127.0.0.1:0", MACP_ENV = "development",
    MACP_DEV_OBSERVERS = "macp-control-plane",
  }
  for name, value in pairs(store.env) do env[name] = value end
  return program.start({ args = { "runtime" }, env = env })
end

local function start(rig, session_id)
  return rig:send("boss", client.start_envelope(session_id, { ttl_ms = 3600000 }))
end

local function health(rig)
  local request = assert(messages.codec("grpc.health.v1.HealthCheckRequest"):encode({ service = "" }))
  local bytes = assert(rig.channel:unary("/grpc.health.v1.Health/Check", request))
  return assert(messages.codec("grpc.health.v1.HealthCheckResponse"):decode(bytes)).status
end

for _, name in ipairs(stores.absent()) do
  describe("two runtimes on one " .. name .. " store", function() pending("are tested in builds that have it") end)
end

for _, store in ipairs(stores.here()) do
  describe("two runtimes on one " .. store.name .. " store", function()
    it("are refused: the second learns process, host, time and epoch of the first", function()
      with_store(store, function(world)
        local id = crypto.uuid4()
        assert.is_true(start(world:client(), id).ok)
        local other = second(world, store)
        assert.is_true(other:wait(20000).code ~= 0)
        local holder = ("is in use by process %d on "):format(world.program.proc:pid())
        local said = other:output()
        assert.truthy(said:find(holder, 1, true), said)
        assert.truthy(said:find(" since 20%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%dZ %(epoch 1%)"), said)
        assert.is_true(start(world:client(), crypto.uuid4()).ok)
        world:stop()
        other = second(world, store)
        other:wait_line('"event":"runtime%.started".*("epoch":2)')
        other:kill("TERM")
        assert.equal(0, other:wait(20000).code)
      end)
    end)

    it("do not both write when the lock fails: the first stops accepting and says so (W7)", function()
      with_store(store, function(world)
        local id, late = crypto.uuid4(), crypto.uuid4()
        local rig = world:client()
        assert.is_true(start(rig, id).ok)
        assert.equal(SERVING, health(rig))
        for _, lock in ipairs(store.locks) do assert(fs.remove(world.data .. store.place .. lock)) end
        local other = second(world, store)
        local address = other:wait_line('"event":"runtime%.started".*"address":"([^"]+)"') -- sorted: address first
        local answer, err = rig:call("boss", "Send", { envelope = client.start_envelope(late, { ttl_ms = 3600000 }) })
        assert.is_nil(answer)
        assert.equal(UNAVAILABLE, err.status)
        local said = "was taken over by process " .. other.proc:pid() .. " on "
        assert.truthy(err.message:find(said, 1, true), err.message)
        assert.truthy(err.message:find("(epoch 2; ours was 1)", 1, true), err.message)
        world.program:wait_line('("event":"ownership%.lost")')
        assert.equal(NOT_SERVING, health(rig))
        for _, token in ipairs({ "boss", "ann" }) do
          local session, refusal = rig:call(token, "GetSession", { session_id = id })
          assert.is_nil(session)
          assert.equal(UNAVAILABLE, refusal.status)
          assert.truthy(refusal.message:find(said, 1, true), refusal.message)
        end
        local theirs = client.connect(address)
        assert.is_true(start(theirs, late).ok, "the start that was refused has left nothing")
        local session = assert(theirs:call("boss", "GetSession", { session_id = id }))
        assert.equal(id, session.metadata.session_id, "what was acknowledged before is there")
        theirs.channel:close()
        other:kill("TERM")
        assert.equal(0, other:wait(20000).code)
        world:stop()
      end)
    end)
  end)
end

