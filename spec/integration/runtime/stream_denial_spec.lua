-- MACP_STREAM_END_AFTER_SUBSCRIBE_DENIAL: what a client that does not read errors on streams is told.

local crypto = require("host.crypto")
local rpc = require("host.rpc")

local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")

local function finished(rig)
  local id = crypto.uuid4()
  assert(rig:send("boss", client.start_envelope(id)).ok)
  assert(rig:call("boss", "CancelSession", { session_id = id }).ack.ok)
  return id
end

-- The code of the error that comes for a subscription, and the status behind it, nil while the stream is open. (yields)
local function subscribe(rig, who, id)
  local stream = rig:stream(who)
  stream:subscribe(id)
  local code = assert(stream:read()).error.code
  stream:half_close()
  local _, err = stream:read()
  stream:cancel()
  return code, err and err.status, err and err.message
end

describe("a subscription that is refused", function()
  local rig

  after_each(function() rig:destroy() end)

  it("leaves the stream open", function()
    rig = assert(client.start())
    assert.same({ "FORBIDDEN" }, { subscribe(rig, "eve", finished(rig)) })
  end)

  it("ends the stream behind the error when the setting says so", function()
    rig = assert(client.start({ env = {
      MACP_STREAM_END_AFTER_SUBSCRIBE_DENIAL = "1", MACP_COMPACT_TERMINAL = "drop",
    } }))
    local id = finished(rig)
    local code, status, text = subscribe(rig, "eve", id)
    assert.same({ "FORBIDDEN", rpc.status.PERMISSION_DENIED }, { code, status })
    assert.equal("Forbidden: only the initiator, participants and observers may subscribe", text)
    eventually(function() return rig.role.sessions.by_id[id].is_dropped end, 5000, "the drop")
    code, status, text = subscribe(rig, "boss", id)
    assert.same({ "FAILED_PRECONDITION", rpc.status.FAILED_PRECONDITION }, { code, status })
    assert.truthy(text:find("the smallest after_sequence is 1", 1, true), text)
  end)
end)
