-- A run of a mode that was registered over the wire: the plane has no folder for it and shows what it can.

local crypto = require("host.crypto")

local client = require("spec.support.runtime_client")
local plane_rig = require("spec.support.plane_rig")

local TOKENS = [=[[{"token":"boss","sender":"boss","can_manage_mode_registry":true},{"token":"ann","sender":"ann"},
  {"token":"plane","sender":"plane","is_observer":true}]]=]

describe("a run of a registered mode", function()
  local rig

  setup(function() rig = plane_rig.start({ runtime_env = { MACP_AUTH_TOKENS_JSON = TOKENS } }) end)
  teardown(function() rig:destroy() end)

  it("is found, shows opaque payloads and ends with the commitment", function()
    local runtime, id = rig.runtime, crypto.uuid4()
    assert.is_true(assert(runtime:call("boss", "RegisterExtMode", { mode_descriptor = {
      mode = "ext.chat.v1", mode_version = "1", message_types = { "Ping", "Commitment" },
      terminal_message_types = { "Commitment" } } })).ok)
    local function send(sender, message_type, message_id, payload)
      local ack = runtime:send(sender, client.envelope({ mode = "ext.chat.v1", session_id = id,
        message_type = message_type, message_id = message_id, payload = payload }))
      assert.is_true(ack.ok, ack.error and ack.error.message)
    end
    send("boss", "SessionStart", "m0", client.payload("macp.v1.SessionStartPayload", { ttl_ms = 60000 }))
    send("ann", "Ping", "m1", "\255\254binary")
    send("boss", "Commitment", "m2", client.payload("macp.v1.CommitmentPayload", { commitment_id = "c",
      action = "chat.completed", authority_scope = "chat", reason = "done", mode_version = "1",
      outcome_positive = true }))
    rig:await(id, "completed")
    local types, ping = {}, nil
    for _, event in ipairs(rig:events(id)) do
      types[event.type] = (types[event.type] or 0) + 1
      if event.type == "message.received" and event.data.messageType == "Ping" then ping = event end
    end
    assert.equal(3, types["message.received"])
    assert.equal(1, types["decision.finalized"])
    assert.same({ "ext.chat.v1", "ann" }, { ping.data.modeName, ping.data.sender })
    assert.is_truthy(ping.data.payload)
    local status, state = rig:get("/runs/" .. id .. "/state")
    assert.equal(200, status)
    assert.equal("chat.completed", state.decision.current.action)
    assert.is_true(state.decision.current.finalized)
    local listed = {}
    local _, modes = rig:get("/runtime/modes")
    for _, mode in ipairs(modes.data or modes) do listed[mode.mode or mode.modeName] = true end
    assert.is_true(listed["ext.chat.v1"])
  end)
end)
