-- Limits of the gRPC interface: time, requests per connection, refused credentials.

local client = require("spec.support.runtime_client")

local crypto = require("host.crypto")
local rpc = require("host.rpc")
local sys = require("host.sys")
local task = require("host.task")

local eventually = require("spec.support.eventually")

local STATUS = rpc.status

-- A disk that takes its time: messages wait until it is released.
local function slow_disk(role)
  local log, released, changed = role.log, false, task.cond()
  local wait = log.wait
  log.wait = function(self, lsn)
    while not released do
      local ok, err = changed:wait()
      if not ok then return nil, err end
    end
    return wait(self, lsn)
  end
  return function()
    released = true
    changed:broadcast()
  end
end

describe("a request that takes too long", function()
  it("ends with DEADLINE_EXCEEDED, and streams do not", function()
    local rig = assert(client.start({ env = { MACP_REQUEST_TIMEOUT_SECS = "1" } }))
    local id = crypto.uuid4()
    assert.is_true(rig:send("boss", client.start_envelope(id)).ok)
    local stream = rig:stream("boss")
    stream:subscribe(id)
    assert.same({ "start" }, stream:ids(1))
    local release = slow_disk(rig.role)
    local began = sys.mono_ms()
    local _, err = rig:call("boss", "Send", { envelope = client.start_envelope(crypto.uuid4()) })
    assert.same({ STATUS.DEADLINE_EXCEEDED, "the request took longer than 1000 ms" }, { err.status, err.message })
    local took = sys.mono_ms() - began
    assert.is_true(took > 900 and took < 20000, took)
    release()
    task.sleep(200)
    assert.is_true(rig:send("ann", client.envelope({ session_id = id, message_id = "m1",
      payload = client.payload("macp.modes.decision.v1.ProposalPayload", { proposal_id = "p", option = "A" }) })).ok)
    assert.same({ "m1" }, stream:ids(1))
    stream:half_close()
    stream:read()
    rig:destroy()
  end)

  it("ends earlier when its client says so", function()
    local rig = assert(client.start())
    local release = slow_disk(rig.role)
    local messages = require("macp.protocol.messages")
    local bytes = assert(messages.codec("macp.v1.SendRequest"):encode({
      envelope = client.start_envelope(crypto.uuid4()) }))
    local _, err = rig.channel:unary(messages.rpc("Send").path, bytes,
      { metadata = { authorization = "Bearer boss" }, timeout_ms = 100 })
    assert.equal(STATUS.DEADLINE_EXCEEDED, err.status)
    release()
    rig:destroy()
  end)
end)

describe("requests of one connection", function()
  it("wait for their turn beyond the limit, those of others and streams do not", function()
    local rig = assert(client.start({ env = { MACP_CONCURRENCY_LIMIT_PER_CONNECTION = "3" } }))
    local id = crypto.uuid4()
    assert.is_true(rig:send("boss", client.start_envelope(id)).ok)
    local streams = {}
    for i = 1, 5 do
      streams[i] = rig:stream("boss")
      streams[i]:subscribe(id)
      assert.same({ "start" }, streams[i]:ids(1))
    end
    local release = slow_disk(rig.role)
    local sends = {}
    for i = 1, 8 do
      sends[i] = task.spawn(function() return rig:send("boss", client.start_envelope(crypto.uuid4())) end)
    end
    local peer
    eventually(function()
      peer = next(rig.role.service.gate.waiting)
      return peer ~= nil and rig.role.server:stats().live == 5 + 8
    end, 3000)
    assert.equal(3, rig.role.service.gate.active[peer])
    assert.equal(1 + 3, rig.role.sessions.count)
    local other = client.connect(rig.role.address)
    assert.equal("macp-runtime", (other:call(nil, "Initialize",
      { supported_protocol_versions = { "1.0" } }).runtime_info.name))
    other.channel:close()
    release()
    for i = 1, 8 do assert.is_true(sends[i]:join().ok) end
    eventually(function() return next(rig.role.service.gate.active) == nil end, 2000)
    for i = 1, 5 do
      streams[i]:half_close()
      streams[i]:read()
    end
    rig:destroy()
  end)

  it("that are given up while they wait take nobody's place", function()
    local rig = assert(client.start({ env = { MACP_CONCURRENCY_LIMIT_PER_CONNECTION = "1" } }))
    local release = slow_disk(rig.role)
    local first = task.spawn(function() return rig:send("boss", client.start_envelope(crypto.uuid4())) end)
    eventually(function() return rig.role.sessions.count == 1 end, 3000)
    local given_up = {}
    for i = 1, 5 do
      given_up[i] = task.spawn(function()
        return rig.channel:unary("/grpc.health.v1.Health/Check", "", { timeout_ms = 50 })
      end)
    end
    for i = 1, 5 do given_up[i]:join() end
    release()
    assert.is_true(first:join().ok)
    assert.is_true(rig:send("boss", client.start_envelope(crypto.uuid4())).ok)
    assert.same({}, rig.role.service.gate.active)
    rig:destroy()
  end)
end)

describe("refused credentials", function()
  local TOKENS = '[{"token":"t","sender":"boss"},{"token":"u","sender":"ann"}]'

  it("are limited per address; who was accepted before goes on", function()
    local rig = assert(client.start({ env = {
      MACP_AUTH_TOKENS_JSON = TOKENS, MACP_AUTH_FAILURE_LIMIT_PER_MINUTE = "4",
    } }))
    assert.is_true(rig:send("t", client.start_envelope(crypto.uuid4())).ok)
    for i, token in ipairs({ "x", "y", "z", "x" }) do
      local ack = rig:send(token, client.start_envelope(crypto.uuid4()))
      assert.equal("UNAUTHENTICATED", ack.error.code, i)
    end
    for _, token in ipairs({ "x", "u", false }) do
      local ack = rig:send(token, client.start_envelope(crypto.uuid4()))
      assert.same({ "RATE_LIMITED", "RateLimited: too many refused credentials from this address" },
        { ack.error.code, ack.error.message })
      local err
      for _, method in ipairs({ "GetSession", "RegisterExtMode", "RegisterPolicy" }) do
        _, err = rig:call(token, method, {})
        assert.same({ STATUS.RESOURCE_EXHAUSTED, "RateLimited: too many refused credentials from this address" },
          { err.status, err.message })
      end
      local stream = rig:stream(token)
      _, err = stream:read()
      assert.equal(STATUS.RESOURCE_EXHAUSTED, err.status)
    end
    assert.is_true(rig:send("t", client.start_envelope(crypto.uuid4())).ok)
    assert.is_not_nil(rig:call(nil, "ListModes", {}))
    assert.matches('macp_runtime_auth_failures_total{reason="limited"} 15', rig.metrics:render(), 1, true)
    rig:destroy()
  end)

  it("are not limited when the setting is 0", function()
    local rig = assert(client.start({ env = {
      MACP_AUTH_TOKENS_JSON = TOKENS, MACP_AUTH_FAILURE_LIMIT_PER_MINUTE = "0",
    } }))
    for _ = 1, 1000 do
      local _, err = rig:call("x", "GetSession", { session_id = crypto.uuid4() })
      assert.equal(STATUS.UNAUTHENTICATED, err.status)
    end
    rig:destroy()
  end)
end)

describe("W15: the limit of open sessions", function()
  local TOKENS = '[{"token":"a","sender":"ann","max_open_sessions":2},{"token":"b","sender":"bob"}]'

  local function start(rig, token) return rig:send(token, client.start_envelope(crypto.uuid4())) end

  it("counts the caller's own open sessions, however many others are busy, and holds under a race", function()
    local rig = assert(client.start({ env = { MACP_AUTH_TOKENS_JSON = TOKENS } }))
    for _ = 1, 20 do assert.is_true(start(rig, "b").ok) end
    local attempts, accepted = {}, {}
    for i = 1, 8 do attempts[i] = task.spawn(function() return start(rig, "a") end) end
    for i = 1, 8 do
      local ack = attempts[i]:join()
      if ack.ok then accepted[#accepted + 1] = ack.session_id
      else assert.equal("RATE_LIMITED", ack.error.code) end
    end
    assert.equal(2, #accepted)
    assert.is_true(start(rig, "b").ok)
    rig:call("a", "CancelSession", { session_id = accepted[1] })
    assert.is_true(start(rig, "a").ok)
    assert.equal("RATE_LIMITED", start(rig, "a").error.code)
    rig = rig:again()
    assert.equal("RATE_LIMITED", start(rig, "a").error.code)
    rig:destroy()
  end)
end)
