local client = require("spec.support.runtime_client")

local crypto = require("host.crypto")

local messages = require("macp.protocol.messages")

local MODE = "ext.auction.v1"

describe("timers of a mode", function()
  it("fire by themselves, are recorded like any message and survive a restart", function()
    local rig = assert(client.start())
    local id = crypto.uuid4()
    local function send(type_, message_id, payload)
      return rig:send("boss", client.envelope({
        mode = MODE, session_id = id, message_type = type_, message_id = message_id, payload = payload,
      }))
    end
    local start = client.start_envelope(id, { participants = { "ann" } }, { mode = MODE })
    local squatter = client.start_envelope(id, { participants = { "ann" } },
      { mode = MODE, message_id = "timer:advance:closed" })
    local refused = rig:send("boss", squatter).error
    assert.same({ "INVALID_ENVELOPE", "InvalidEnvelope: the message id is reserved for timers of the mode" },
      { refused.code, refused.message })
    assert.is_true(rig:send("boss", start).ok)
    local codec = rig.role.modes:get(MODE):codec("Open")
    local ack = send("Open", "open", assert(codec:encode({ lot_id = "L1", seal_ms = 1000, reveal_ms = 1000 })))
    assert.is_true(ack.ok, ack.error and ack.error.message)
    assert.equal("INVALID_ENVELOPE", send("Advance", "timer:advance:revealing", "").error.code)
    rig = rig:again()
    local stream = rig:stream("boss")
    stream:subscribe(id)
    local ids = stream:ids(4)
    assert.same({ "start", "open" }, { ids[1], ids[2] })
    assert.truthy(ids[3]:find("revealing", 1, true) and ids[4]:find("closed", 1, true))
    stream:cancel()
    local metadata = assert(rig:call("boss", "GetSession", { session_id = id })).metadata
    assert.equal(1, #metadata.participant_activity)
    stream = rig:stream("boss")
    stream:subscribe(id, 2)
    local first = assert(stream:read()).envelope
    assert.equal(ack.accepted_at_unix_ms + 1000, first.timestamp_unix_ms)
    stream:cancel()
    local failed = rig:send("boss", client.envelope({
      mode = MODE, session_id = id, message_type = "Commitment", message_id = "c",
      payload = assert(messages.codec("macp.v1.CommitmentPayload"):encode({
        commitment_id = "c", action = "auction.failed", authority_scope = "lot", reason = "no bids",
        mode_version = "1.0.0", configuration_version = "config.default",
      })),
    }))
    assert.equal(2, failed.session_state)
    rig:destroy()
  end)
end)

describe("visible sessions only", function()
  it("are listed and watched with that scope", function()
    local rig = assert(client.start({ env = { MACP_LIST_SESSIONS_SCOPE = "visible" } }))
    local watch = rig:watch("ann", "WatchSessions")
    local seen, hidden = crypto.uuid4(), crypto.uuid4()
    assert.is_true(rig:send("boss", client.start_envelope(hidden, { participants = { "bob" } })).ok)
    assert.is_true(rig:send("boss", client.start_envelope(seen)).ok)
    assert.equal(seen, assert(watch:read()).event.session.session_id)
    assert.equal(1, #assert(rig:call("ann", "ListSessions")).sessions)
    assert.equal(2, #assert(rig:call("boss", "ListSessions")).sessions)
    watch:cancel()
    rig:destroy()
  end)
end)
