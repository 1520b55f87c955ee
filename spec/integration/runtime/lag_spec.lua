-- What watchers are told that read too slowly: everything up to there in order, then RESOURCE_EXHAUSTED and why.

local client = require("spec.support.runtime_client")

local crypto = require("host.crypto")
local rpc = require("host.rpc")

local BIG = ("x"):rep(200000)
local ENOUGH = 200 -- of these fill every buffer on the way

describe("a watcher that reads too slowly", function()
  local rig

  before_each(function() rig = assert(client.start({ env = { MACP_MEMORY_ONLY = "1" } })) end)
  after_each(function() rig:destroy() end)

  local function start(participant)
    local id = crypto.uuid4()
    assert.is_true(rig:send("boss", client.start_envelope(id, { participants = { participant } })).ok)
    return id
  end

  -- Reads to the end. Returns the responses, the status and its text. (yields)
  local function drain(watch)
    local list = {}
    while true do
      local response, err = watch:read()
      if response == nil then return list, err and err.status, err and err.message end
      list[#list + 1] = response
    end
  end

  local function is_closed(watch_set) return next(watch_set) == nil end

  it("of signals has them in order, and is told to watch again", function()
    local watch = rig:watch("ann", "WatchSignals")
    require("spec.support.eventually")(function() return not is_closed(rig.role.watches.signal_watchers) end, 5000)
    local payload = client.payload("macp.v1.SignalPayload", { signal_type = "noise", data = BIG })
    local sent = 0
    repeat
      sent = sent + 1
      assert.is_true(rig:send("ann", client.envelope({ message_type = "Signal", mode = "", session_id = "",
        message_id = "s" .. sent, payload = payload })).ok)
    until is_closed(rig.role.watches.signal_watchers) or sent == ENOUGH
    local list, status, text = drain(watch)
    assert.same({ rpc.status.RESOURCE_EXHAUSTED, "the reader fell behind; watch again" }, { status, text })
    assert.is_true(#list >= 1 and #list < sent)
    for i, response in ipairs(list) do assert.equal("s" .. i, response.envelope.message_id) end
  end)

  it("of sessions has their events in order, and is told to watch again", function()
    local watch = rig:watch("ann", "WatchSessions")
    start("early")
    assert(watch:read()) -- the first list is written
    local ids = {}
    repeat ids[#ids + 1] = start(BIG) until is_closed(rig.role.watches.session_watchers) or #ids == ENOUGH
    local list, status, text = drain(watch)
    assert.same({ rpc.status.RESOURCE_EXHAUSTED, "the reader fell behind; watch again" }, { status, text })
    assert.is_true(#list >= 1 and #list < #ids)
    for i, response in ipairs(list) do assert.equal(ids[i], response.event.session.session_id) end
  end)

  it("of sessions is told so when too much happens while they are listed", function()
    for _ = 1, 100 do start(BIG) end
    local watch = rig:watch("ann", "WatchSessions")
    assert(watch:read())
    local events = 0
    repeat
      assert.is_true(rig:call("boss", "CancelSession", { session_id = start("p") }).ack.ok)
      events = events + 2
    until is_closed(rig.role.watches.session_watchers) or events > 1100
    assert.is_true(events > 1000 and events <= 1026, events .. " events")
    local list, status, text = drain(watch)
    assert.same({ rpc.status.RESOURCE_EXHAUSTED, "too many events while the sessions were listed; watch again" },
      { status, text })
    assert.is_true(#list < 100)
  end)
end)
