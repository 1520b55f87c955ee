-- What callers are told, word for word, while the store does not take what is written.

local crypto = require("host.crypto")
local rpc = require("host.rpc")
local sys = require("host.sys")

local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")

local INTERNAL = rpc.status.INTERNAL
local LOST = "StorageFailed: sync the journal: Input/output error"

describe("an answer while the store fails", function()
  if sys.fault == nil then return end
  local rig, id

  before_each(function()
    rig = assert(client.start())
    id = crypto.uuid4()
    assert.is_true(rig:send("boss", client.start_envelope(id)).ok)
  end)
  after_each(function()
    sys.fault("journal.fsync")
    rig:destroy()
  end)

  local function envelope(name)
    return client.envelope({ session_id = id, message_id = name,
      payload = client.payload("macp.modes.decision.v1.ProposalPayload", { proposal_id = name, option = "A" }) })
  end

  local function fail() sys.fault("journal.fsync", "fail") end

  it("to Send says what failed", function()
    fail()
    local err = rig:send("ann", envelope("m1")).error
    assert.same({ "INTERNAL_ERROR", LOST, id, "m1" }, { err.code, err.message, err.session_id, err.message_id })
  end)

  -- Calls until the expiry of a session is what the store does not take: the clock may have been faster.
  local function refusal_of_expired(method)
    local brief = crypto.uuid4()
    assert.is_true(rig:send("boss", client.start_envelope(brief, { ttl_ms = 100 })).ok)
    fail()
    return eventually(function()
      local _, err = rig:call("boss", method, method == "GetSession" and { session_id = brief } or {})
      return err
    end, 5000, "the refusal")
  end

  it("to GetSession says that the session is being rebuilt, when its expiry cannot be noted", function()
    local err = refusal_of_expired("GetSession")
    assert.same({ INTERNAL, "StorageFailed: the session is being rebuilt" }, { err.status, err.message })
  end)

  it("to ListSessions says what failed", function()
    local err = refusal_of_expired("ListSessions")
    assert.same({ INTERNAL, LOST }, { err.status, err.message })
  end)

  it("to who sent on a stream says that an envelope was not recorded", function()
    local stream = rig:stream("ann")
    stream:write({ envelope = envelope("m1") })
    assert.same({ "m1" }, stream:ids(1))
    fail()
    stream:write({ envelope = envelope("m2") })
    local response, err = stream:read()
    assert.is_nil(response)
    assert.same({ INTERNAL, "StorageFailed: an envelope was not recorded" }, { err.status, err.message })
  end)

  it("to WatchSessions says that a session is being rebuilt", function()
    -- A record joins just before the watch waits for what it shows, and its flush fails.
    local watches, log = rig.role.watches, rig.role.log
    function watches:lifecycle(session, ...)
      self.lifecycle = nil
      assert(log:append(session, "never stored"))
      return self:lifecycle(session, ...)
    end
    fail()
    local response, err = rig:watch("boss", "WatchSessions"):read()
    assert.is_nil(response)
    assert.same({ INTERNAL, "StorageFailed: a session is being rebuilt" }, { err.status, err.message })
  end)
end)
