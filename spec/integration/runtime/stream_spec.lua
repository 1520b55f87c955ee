local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")

local crypto = require("host.crypto")
local task = require("host.task")

local function proposal(id)
  return client.payload("macp.modes.decision.v1.ProposalPayload", { proposal_id = id, option = "A" })
end

describe("StreamSession", function()
  local rig, id

  setup(function() rig = assert(client.start()) end)
  teardown(function() rig:destroy() end)

  before_each(function()
    id = crypto.uuid4()
    assert.is_true(rig:send("boss", client.start_envelope(id)).ok)
  end)

  local function propose(name, sender)
    return rig:send(sender or "ann", client.envelope({ session_id = id, message_id = name, payload = proposal(name) }))
  end

  local function end_status(stream)
    while true do
      local response, err = stream:read()
      if response == nil then return err and err.status or 0, err end
    end
  end

  it("replays the history and follows live, without gap or repetition", function()
    for i = 1, 5 do propose("m" .. i) end
    local stream = rig:stream("bob")
    stream:subscribe(id)
    assert.same({ "start", "m1", "m2", "m3", "m4", "m5" }, stream:ids(6))
    propose("m6")
    assert.same({ "m6" }, stream:ids(1))
    stream:half_close()
    assert.equal(0, end_status(stream))
  end)

  for after, expected in pairs({ [1] = { "m1", "m2", "live" }, [3] = { "live" }, [9] = { "live" } }) do
    it("replays what follows ordinal " .. after, function()
      propose("m1")
      propose("m2")
      local stream = rig:stream("bob")
      stream:subscribe(id, after)
      if after < 3 then assert.same({ expected[1], expected[2] }, stream:ids(2)) else task.sleep(30) end
      propose("live")
      assert.same({ "live" }, stream:ids(1))
      stream:cancel()
    end)
  end

  it("misses nothing while messages arrive during the replay", function()
    for i = 1, 300 do propose("a" .. i) end
    local sender = task.spawn(function()
      for i = 1, 200 do propose("b" .. i) end
      return true
    end)
    local stream = rig:stream("bob")
    stream:subscribe(id)
    local ids = stream:ids(501)
    assert.is_true(sender:join())
    local seen = {}
    for _, name in ipairs(ids) do
      assert.is_nil(seen[name])
      seen[name] = true
    end
    assert.equal("start", ids[1])
    assert.equal("b200", ids[501])
    stream:cancel()
  end)

  it("W40: replays a finished session from its first envelope", function()
    propose("m1")
    rig:call("boss", "CancelSession", { session_id = id, reason = "enough" })
    local stream = rig:stream("ann")
    stream:subscribe(id)
    stream:half_close()
    assert.same({ "start", "m1" }, stream:ids(2))
    assert.equal(0, end_status(stream))
  end)

  it("skips internal records when it counts ordinals", function()
    propose("m1")
    rig:call("boss", "SuspendSession", { session_id = id })
    rig:call("boss", "ResumeSession", { session_id = id })
    propose("m2")
    propose("m3")
    local stream = rig:stream("ann")
    stream:subscribe(id, 3)
    stream:half_close()
    assert.same({ "m3" }, stream:ids(1))
    assert.equal(0, end_status(stream))
  end)

  it("echoes accepted envelopes with the authenticated sender, and duplicates not at all", function()
    local stream = rig:stream("ann")
    for _, name in ipairs({ "m1", "m1", "m2" }) do
      stream:write({ envelope = client.envelope({ session_id = id, message_id = name, payload = proposal(name) }) })
    end
    local first = assert(stream:read()).envelope
    assert.same({ "m1", "ann", "Proposal" }, { first.message_id, first.sender, first.message_type })
    assert.is_true(first.timestamp_unix_ms > 0)
    assert.same({ "m2" }, stream:ids(1))
    stream:half_close()
    assert.equal(0, end_status(stream))
  end)

  it("starts a session and delivers its own start", function()
    local own = crypto.uuid4()
    local stream = rig:stream("boss")
    stream:write({ envelope = client.start_envelope(own) })
    assert.same({ "start" }, stream:ids(1))
    stream:cancel()
  end)

  it("W36: answers refusals inline and stays open", function()
    local stream = rig:stream("ann")
    stream:write({ envelope = client.envelope({ session_id = id, message_id = "x", message_type = "Shout" }) })
    local failure = assert(stream:read()).error
    assert.same({ "INVALID_ENVELOPE", id, "x" }, { failure.code, failure.session_id, failure.message_id })
    stream:write({ envelope = client.envelope({ session_id = id, message_id = "m1", payload = proposal("m1") }) })
    assert.same({ "m1" }, stream:ids(1))
    stream:cancel()
  end)

  it("W25: does not let a refused sender listen", function()
    local stream = rig:stream("eve")
    stream:write({ envelope = client.envelope({ session_id = id, message_id = "x", payload = proposal("x") }) })
    assert.equal("FORBIDDEN", assert(stream:read()).error.code)
    propose("m1")
    stream:half_close()
    assert.is_nil(stream:read())
    assert.is_nil(rig.role.sessions.by_id[id].subscribers)
  end)

  it("W25: lets an accepted sender who may not read send, and not listen", function()
    assert.is_true(rig:call("boss", "RegisterPolicy", { policy_descriptor = { policy_id = "policy.eve",
      schema_version = 3, mode = "macp.mode.decision.v1",
      rules = '{"commitment":{"authority":"designated_role","designated_roles":["eve"]}}' } }).ok)
    local own = crypto.uuid4()
    assert.is_true(rig:send("boss", client.start_envelope(own, { policy_version = "policy.eve" })).ok)
    local first = client.envelope({ session_id = own, message_id = "m1", payload = proposal("m1") })
    assert.is_true(rig:send("ann", first).ok)
    local stream = rig:stream("eve")
    stream:write({ envelope = client.envelope({ session_id = own, message_type = "Commitment", message_id = "c",
      payload = client.payload("macp.v1.CommitmentPayload", { commitment_id = "c", action = "go", reason = "r",
        authority_scope = "s", mode_version = "1.0.0", configuration_version = "config.default",
        outcome_positive = true }) }) })
    eventually(function()
      return rig:call("boss", "GetSession", { session_id = own }).metadata.state == 2
    end, 5000, "the commitment")
    stream:half_close()
    assert.same({}, { stream:read() })
  end)

  it("refuses an outsider's subscription inline, and lets the stream be used for another session", function()
    local own = crypto.uuid4()
    assert.is_true(rig:send("eve", client.start_envelope(own, { participants = { "eve" } })).ok)
    local stream = rig:stream("eve")
    stream:subscribe(id)
    assert.equal("FORBIDDEN", assert(stream:read()).error.code)
    stream:subscribe(own)
    assert.same({ "start" }, stream:ids(1))
    stream:cancel()
  end)

  local ENDINGS = {
    { "an unknown session", 5, function() return { subscribe_session_id = "unknown-session-unknown" } end },
    { "a frame with both fields", 3, function()
      return { subscribe_session_id = id, envelope = client.envelope({ session_id = id }) }
    end },
    { "a frame with neither field", 3, function() return {} end },
    { "a blank mode", 3, function() return { envelope = client.envelope({ session_id = id, mode = "", message_type =
      "Signal" }) } end, inline = true },
    { "somebody else's name", 16, function()
      return { envelope = client.envelope({ session_id = id, sender = "bob" }) }
    end },
  }
  for _, case in ipairs(ENDINGS) do
    it("W36: " .. (case.inline and "answers inline on " or "ends on ") .. case[1], function()
      local stream = rig:stream("ann")
      stream:write(case[3]())
      if case.inline then
        assert.equal("INVALID_ENVELOPE", assert(stream:read()).error.code)
        stream:cancel()
      else
        assert.equal(case[2], (end_status(stream)))
      end
    end)
  end

  it("ends when a second session is named", function()
    local other = crypto.uuid4()
    rig:send("boss", client.start_envelope(other))
    local stream = rig:stream("boss")
    stream:subscribe(id)
    stream:ids(1)
    stream:subscribe(other)
    assert.equal(3, (end_status(stream)))
  end)

  it("ends with UNAUTHENTICATED without a credential", function()
    assert.equal(16, (end_status(rig:stream(nil))))
  end)

  it("ends with INTERNAL on bytes that are no message", function()
    local stream = rig:stream("ann")
    stream.stream:write("\255\255\255")
    assert.equal(13, (end_status(stream)))
  end)

  it("W21: forgets a subscriber that cancels", function()
    local stream = rig:stream("bob")
    stream:subscribe(id)
    stream:ids(1)
    stream:cancel()
    require("spec.support.eventually")(function() return rig.role.sessions.by_id[id].subscribers == nil end, 2000)
    assert.is_true(propose("m1").ok)
  end)

  it("ends a reader that falls behind with RESOURCE_EXHAUSTED, and loses it nothing", function()
    local slow = rig:stream("bob")
    slow:subscribe(id)
    slow:ids(1)
    local text = ("x"):rep(250000)
    for i = 1, 60 do
      assert.is_true(rig:send("ann", client.envelope({
        session_id = id, message_id = "m" .. i,
        payload = client.payload("macp.modes.decision.v1.ProposalPayload",
          { proposal_id = "p" .. i, option = "A", supporting_data = text }),
      })).ok)
    end
    local received, status, told = 0, nil, nil
    while status == nil do
      local response, err = slow:read()
      if response then
        received = received + 1
        assert.equal("m" .. received, response.envelope.message_id)
      else
        status, told = err and err.status or 0, err and err.message
      end
    end
    assert.equal(8, status)
    assert.equal("the reader fell behind at envelope " .. received + 1 .. "; subscribe again from there", told)
    local again = rig:stream("bob")
    again:subscribe(id, received + 1)
    assert.same({ "m" .. received + 1 }, again:ids(1))
    again:cancel()
  end)
end)
