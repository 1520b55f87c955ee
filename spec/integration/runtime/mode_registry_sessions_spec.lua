-- Sessions of a mode that was registered over the wire.

local crypto = require("host.crypto")

local client = require("spec.support.runtime_client")
local registered = require("spec.support.registered_modes")

local RESOLVED = 2
local register, start = registered.register, registered.start
local send, commitment = registered.send, registered.commitment
local state_of = registered.state_of

describe("sessions of a registered mode", function()
  local rig

  setup(function()
    rig = assert(client.start())
    assert(register(rig))
  end)
  teardown(function() rig:destroy() end)

  it("start with nothing but a time to live, and bind the version of the descriptor", function()
    local ack, id = start(rig, "ext.chat.v1")
    assert.is_true(ack.ok)
    assert.equal("1.2.0", state_of(rig, id).mode_version)
    assert.equal("policy.default", state_of(rig, id).policy_version)
    assert.equal("", state_of(rig, id).configuration_version)
  end)

  it("refuse a start without a time to live, without a payload and with another version", function()
    assert.equal("INVALID_ENVELOPE", start(rig, "ext.chat.v1", { ttl_ms = 0 }).error.code)
    assert.equal("INVALID_ENVELOPE", start(rig, "ext.chat.v1", { ttl_ms = 86400001 }).error.code)
    assert.equal("INVALID_ENVELOPE", start(rig, "ext.chat.v1", { mode_version = "1.0.0" }).error.code)
    local ack = rig:send("host", client.start_envelope(crypto.uuid4(), {}, { mode = "ext.chat.v1", payload = "" }))
    assert.equal("INVALID_ENVELOPE", ack.error.code)
    assert.is_true(start(rig, "ext.chat.v1", { mode_version = "1.2.0" }).ok)
  end)

  it("take opaque payloads of declared types from everybody when nobody was declared", function()
    local _, id = start(rig, "ext.chat.v1")
    assert.is_true(send(rig, "ann", id, "ext.chat.v1", "Ping", "\255\0\1").ok)
    assert.is_true(send(rig, "bob", id, "ext.chat.v1", "Pong").ok)
    assert.equal("INVALID_ENVELOPE", send(rig, "ann", id, "ext.chat.v1", "Pang").error.code)
    assert.equal("FORBIDDEN", send(rig, "ann", id, "ext.chat.v1", "SessionCancel").error.code)
    assert.equal("FORBIDDEN", send(rig, "ann", id, "ext.chat.v1", "Commitment", commitment()).error.code)
    assert.equal("INVALID_ENVELOPE",
      send(rig, "host", id, "ext.chat.v1", "Commitment", commitment({ reason = " " })).error.code)
    assert.equal("INVALID_ENVELOPE",
      send(rig, "host", id, "ext.chat.v1", "Commitment", commitment({ mode_version = "1.0.0" })).error.code)
    assert.equal("INVALID_ENVELOPE",
      send(rig, "host", id, "ext.chat.v1", "Commitment", commitment({ outcome_positive = false })).error.code)
    assert.is_true(send(rig, "host", id, "ext.chat.v1", "Commitment", commitment()).ok)
    assert.equal(RESOLVED, state_of(rig, id).state)
  end)

  it("count the messages of a participant once, however often it was named", function()
    local _, id = start(rig, "ext.chat.v1", { participants = { "ann", "ann", "bob" } })
    send(rig, "ann", id, "ext.chat.v1", "Ping")
    local metadata = state_of(rig, id)
    assert.same({ "ann", "ann", "bob" }, metadata.participants)
    assert.equal(1, #metadata.participant_activity)
    assert.equal(1, metadata.participant_activity[1].message_count)
  end)

  it("take messages only from declared participants", function()
    local _, id = start(rig, "ext.chat.v1", { participants = { "ann" } })
    assert.is_true(send(rig, "ann", id, "ext.chat.v1", "Ping").ok)
    assert.equal("FORBIDDEN", send(rig, "bob", id, "ext.chat.v1", "Ping").error.code)
    assert.equal("FORBIDDEN", send(rig, "host", id, "ext.chat.v1", "Ping").error.code)
  end)

  it("must be complete once the mode is promoted", function()
    register(rig, { mode = "ext.grow.v1" })
    assert.is_true(start(rig, "ext.grow.v1").ok)
    rig:call("boss", "PromoteMode", { mode = "ext.grow.v1" })
    local ack = start(rig, "ext.grow.v1")
    assert.equal("INVALID_ENVELOPE", ack.error.code)
    ack = start(rig, "ext.grow.v1", { participants = {}, mode_version = "1.2.0", configuration_version = "cfg" })
    assert.same({ "INVALID_ENVELOPE", "InvalidPayload: participants is empty" }, { ack.error.code, ack.error.message })
    assert.is_true(start(rig, "ext.grow.v1",
      { participants = { "ann" }, mode_version = "1.2.0", configuration_version = "cfg" }).ok)
  end)

  it("keep their handler when the mode is unregistered or renamed", function()
    register(rig, { mode = "ext.leave.v1" })
    register(rig, { mode = "ext.move.v1" })
    local _, left = start(rig, "ext.leave.v1")
    local _, moved = start(rig, "ext.move.v1")
    assert.is_true(assert(rig:call("boss", "UnregisterExtMode", { mode = "ext.leave.v1" })).ok)
    assert.is_true(assert(rig:call("boss", "PromoteMode",
      { mode = "ext.move.v1", promoted_mode_name = "org.move.v1" })).ok)
    assert.equal("MODE_NOT_SUPPORTED", start(rig, "ext.leave.v1").error.code)
    for mode, id in pairs({ ["ext.leave.v1"] = left, ["ext.move.v1"] = moved }) do
      assert.is_true(send(rig, "ann", id, mode, "Ping", "x").ok)
      assert.is_true(send(rig, "host", id, mode, "Commitment", commitment()).ok)
      assert.equal(RESOLVED, state_of(rig, id).state)
    end
  end)
end)
