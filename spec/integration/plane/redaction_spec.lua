-- W43: what is redacted is found nowhere that is served or stored of signals, and not in the events of a session.

local crypto = require("host.crypto")

local json = require("macp.core.json")

local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")
local runtime = require("spec.support.runtime_client")

local SECRET = "sk-abcdefghijklmnop1234"

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

describe("W43: a redacted text", function()
  local rig

  setup(function() rig = plane_rig.start({ env = { MACP_REDACT_PRESETS = "api_keys" } }) end)
  teardown(function() rig:destroy() end)

  it("is in no event, no projection, no mode view and no stored signal", function()
    local id = crypto.uuid4()
    rig:open_session(id)
    rig:await(id, "running")
    rig:propose(id, "p1", "use " .. SECRET)
    local call = json.encode({ model = "m", prompt = "with " .. SECRET, tokenUsage = { promptTokens = 5 } })
    local ack = rig.runtime:send("ann", runtime.envelope({ mode = "", message_type = "Signal",
      message_id = crypto.uuid4(), session_id = "", payload = runtime.payload("macp.v1.SignalPayload", {
        signal_type = "llm.call.completed", data = call, correlation_session_id = id }) }))
    assert(ack.ok, ack.error and ack.error.message)
    eventually(function()
      local _, state = rig:get("/runs/" .. id .. "/state")
      return state.llm.totals.callCount == 1 and state.decision.current
    end, 5000, "both arrive")
    local encoded = crypto.base64_encode(call)
    local served = {}
    local _, bundle = rig:get("/runs/" .. id .. "/export?includeRaw=true")
    served[1] = json.encode(bundle)
    local shown = 0
    for _, row in ipairs(bundle.rawEvents) do
      local env = row.payload.envelope
      if env then
        local bytes = crypto.base64_decode(env.payloadBase64)
        assert.is_nil(bytes:find(SECRET, 1, true))
        if bytes:find("[REDACTED]", 1, true) and env.messageType == "Proposal" then
          assert.is_true(env.redacted)
          shown = shown + 1
        end
      end
    end
    assert.equal(1, shown)
    for _, path in ipairs({ "/state", "/events?limit=5000", "/replay/state" }) do
      local _, reply = rig:get("/runs/" .. id .. path)
      served[#served + 1] = json.encode(reply)
    end
    local text = table.concat(served)
    assert.is_nil(text:find(SECRET, 1, true))
    assert.is_nil(text:find(encoded, 1, true))
    assert.truthy(text:find("use [REDACTED]", 1, true))
    assert.truthy(text:find("with [REDACTED]", 1, true))
    local signals = rig:rows("select position($2::bytea in frame) as at from run_events_raw where run_id = $1 "
      .. "and kind = 'stream-signal'", id, SECRET)
    assert.equal(1, #signals)
    assert.equal(0, signals[1].at)
  end)
end)
