-- Calls that no client should make, against the real program: the right code, no trace of a refused message in history,
-- metadata or journal, and nothing kept in memory.

local crypto = require("host.crypto")
local rpc = require("host.rpc")
local task = require("host.task")

local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")
local system = require("spec.support.system")
local workers = require("spec.support.workers")

local FLOOD = 2000
local MAX_PAYLOAD = 65536
local DECISION = "macp.modes.decision.v1."

local function proposal(name, text)
  return client.payload(DECISION .. "ProposalPayload", { proposal_id = name, option = "A", rationale = text or "" })
end

-- token, fields of the envelope, code of the ack
local REFUSED = {
  { "another protocol version", "ann", { macp_version = "9.0" }, "UNSUPPORTED_PROTOCOL_VERSION" },
  { "no message id", "ann", { message_id = "" }, "INVALID_ENVELOPE" },
  { "an unknown session", "ann", { session_id = "00000000-0000-4000-8000-000000000000" }, "SESSION_NOT_FOUND" },
  { "an unknown mode", "boss", { mode = "ext.nowhere.v1", session_id = crypto.uuid4(), message_type = "SessionStart",
    payload = client.start_envelope("x").payload }, "MODE_NOT_SUPPORTED" },
  { "another mode than the session's", "ann", { mode = "ext.auction.v1" }, "INVALID_ENVELOPE" },
  { "somebody else's name", "ann", { sender = "bob" }, "UNAUTHENTICATED" },
  { "no credentials", nil, {}, "UNAUTHENTICATED" },
  { "a sender who does not take part", "eve", {}, "FORBIDDEN" },
  { "a commitment of somebody who may not", "ann", { message_type = "Commitment",
    payload = client.payload("macp.v1.CommitmentPayload", { commitment_id = "c", action = "decision.selected",
      authority_scope = "team", reason = "r", mode_version = "1.0.0", configuration_version = "config.default",
      outcome_positive = true }) }, "FORBIDDEN" },
  { "an unknown type", "ann", { message_type = "Shout" }, "INVALID_ENVELOPE" },
  { "a message of the runtime's own", "ann", { message_type = "SessionCancel" }, "FORBIDDEN" },
  { "a payload that is no message", "ann", { payload = "\255\255\255" }, "INVALID_ENVELOPE" },
  { "a payload with invalid UTF-8", "ann", { payload = "\10\2\255\254\18\1A" }, "INVALID_ENVELOPE" },
  { "a payload without a required field", "ann", { payload = "" }, "INVALID_ENVELOPE" },
  { "an oversized payload", "ann", { payload = ("x"):rep(MAX_PAYLOAD + 1) }, "PAYLOAD_TOO_LARGE" },
}

-- bytes of a Send call that carry no envelope, and the status of the call
local BROKEN = {
  { "bytes that are no message", "\255\255\255\255\255", rpc.status.INTERNAL },
  { "invalid UTF-8 in the envelope", "\10\4\18\2\255\254", rpc.status.INTERNAL },
  { "no envelope", "", rpc.status.INVALID_ARGUMENT },
  { "a message larger than any envelope", ("x"):rep(MAX_PAYLOAD + 65536 + 1), rpc.status.RESOURCE_EXHAUSTED },
}

describe("bad gRPC input", function()
  local world, id

  setup(function()
    world = system.start({ database = false, role = "runtime", env = {
      MACP_MAX_PAYLOAD_BYTES = tostring(MAX_PAYLOAD), MACP_LOG_LEVEL = "error",
    } })
    id = crypto.uuid4()
    assert(world:client():send("boss", client.start_envelope(id, { ttl_ms = 3600000 })).ok)
    local good = client.envelope({ session_id = id, message_id = "good", payload = proposal("g") })
    assert(world:client():send("ann", good).ok)
  end)

  teardown(function() world:close() end)

  local function metadata()
    return assert(world:client():call("boss", "GetSession", { session_id = id })).metadata
  end

  local function send_bad(case)
    local fields = { session_id = id, message_id = "bad", payload = proposal("b") }
    for key, value in pairs(case[3]) do fields[key] = value end
    return world:client():send(case[2], client.envelope(fields))
  end

  for _, case in ipairs(REFUSED) do
    it(case[1] .. " is refused without a trace", function()
      local before = metadata()
      local ack = send_bad(case)
      assert.is_false(ack.ok)
      assert.equal(case[4], ack.error.code)
      assert.is_true(#ack.error.message > 0)
      assert.same(before, metadata())
      assert.same({ "start", "good" }, (world:history(id)))
    end)
  end

  for _, case in ipairs(BROKEN) do
    it(case[1] .. " fails the call and nothing else", function()
      local answer, err = world:client():call("ann", "Send", case[2])
      assert.is_nil(answer)
      assert.equal(case[3], err.status)
      assert.same({ "start", "good" }, (world:history(id)))
    end)
  end

  it("an unknown method is UNIMPLEMENTED", function()
    local _, err = world:client().channel:unary("/macp.v1.MACPRuntimeService/Explode", "", { timeout_ms = 5000 })
    assert.equal(rpc.status.UNIMPLEMENTED, err.status)
  end)

  it("the same message twice is told as a duplicate and stored once", function()
    local ack = world:client():send("ann", client.envelope({ session_id = id, message_id = "good",
      payload = proposal("g") }))
    assert.same({ true, true }, { ack.ok, ack.duplicate })
    assert.same({ "start", "good" }, (world:history(id)))
  end)

  it("two thousand times leaves the memory and the journal as they were", function()
    local function flood(count)
      workers.each(count, 16, function(i)
        local case = REFUSED[i % (#REFUSED - 1) + 1] -- without the large one
        assert(not send_bad(case).ok)
        world:client():call("ann", "Send", BROKEN[i % 3 + 1][2])
      end)
    end
    flood(300) -- caches and pools fill up
    local before = world:rss_mib()
    flood(FLOOD)
    local grown = world:rss_mib() - before
    assert.is_true(system.is_slow or grown < 16, grown .. " MiB more")
    assert.same({ "start", "good" }, (world:history(id)))
    world:disconnect()
    world:crash()
    world:serve()
    assert.same({ "start", "good" }, (world:history(id)))
  end)

  it("calls that are given up happen once or not at all", function()
    local session, rig, accepted = crypto.uuid4(), world:client(), {}
    assert(rig:send("boss", client.start_envelope(session, { ttl_ms = 3600000 })).ok)
    assert(task.group(function(group)
      for i = 1, 200 do
        group:spawn(function()
          local request = client.envelope({ session_id = session, message_id = "m" .. i, payload = proposal("p" .. i) })
          local caller = task.spawn(function() return rig:send("ann", request) end)
          task.sleep(i % 12)
          if i % 2 == 0 then caller:cancel() end
          local ack = caller:join()
          if ack then
            assert(ack.ok)
            accepted[request.message_id] = true
          end
          return true
        end)
      end
    end))
    local seen = {}
    for _, name in ipairs((world:history(session))) do
      assert.is_nil(seen[name], name)
      seen[name] = true
    end
    local count = 0
    for name in pairs(accepted) do
      assert.is_true(seen[name], name)
      count = count + 1
    end
    assert.is_true(count >= 100)
    for i = 1, 200 do -- what was given up can be sent again, and is there once then
      local name = "m" .. i
      local ack = rig:send("ann", client.envelope({ session_id = session, message_id = name,
        payload = proposal("p" .. i) }))
      assert.same({ true, seen[name] or false }, { ack.ok, ack.duplicate })
    end
    assert.equal(201, #world:history(session))
  end)

  it("streams that nobody reads cost bounded memory, delay nobody and miss nothing", function()
    local READERS, MESSAGES, TEXT = 20, 600, ("x"):rep(20000)
    local session, rig = crypto.uuid4(), world:client()
    assert(rig:send("boss", client.start_envelope(session, { ttl_ms = 3600000 })).ok)
    local streams, channels = {}, {}
    for i = 1, READERS do
      channels[i] = client.connect(world.address)
      streams[i] = channels[i]:stream("bob")
      streams[i]:subscribe(session)
      streams[i]:ids(1)
    end
    local before = world:rss_mib()
    local expected = {}
    for i = 1, MESSAGES do
      expected[i] = "m" .. i
      assert(rig:send("ann", client.envelope({ session_id = session, message_id = expected[i],
        payload = proposal(expected[i], TEXT) })).ok)
    end
    local grown = world:rss_mib() - before
    assert.is_true(system.is_slow or grown < 100, grown .. " MiB more")
    for i = 1, 2 do
      local seen, stream = {}, streams[i]
      while #seen < MESSAGES do
        local response, err = stream:read()
        if response then
          seen[#seen + 1] = response.envelope.message_id
        else
          assert.equal(rpc.status.RESOURCE_EXHAUSTED, err.status)
          stream = channels[i]:stream("bob")
          stream:subscribe(session, #seen + 1) -- the start counts, too
        end
      end
      assert.same(expected, seen)
      stream:cancel()
    end
    for i = 1, READERS do
      streams[i]:cancel()
      channels[i].channel:close()
    end
    eventually(function() return rig:send("ann", client.envelope({ session_id = session, message_id = "end",
      payload = proposal("end") })).ok end, 2000)
  end)

  it("lets the program end in order", function() world:stop() end)
end)
