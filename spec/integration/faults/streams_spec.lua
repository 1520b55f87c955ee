-- A client that opens many streams and reads none, against the real program.

local crypto = require("host.crypto")
local fetch = require("host.fetch")
local sys = require("host.sys")

local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")
local messages = require("macp.protocol.messages")
local ports = require("spec.support.ports")
local system = require("spec.support.system")

local MAX_WAIT_MS = 5000 -- for an answer on a busy machine; a thousand replays that begin cost it some 40 ms
local STREAMS, MESSAGES, LIVE_MESSAGES, TEXT_BYTES = 1000, 300, 80, 20000

local function proposal(name)
  return client.payload("macp.modes.decision.v1.ProposalPayload",
    { proposal_id = name, option = "A", rationale = ("x"):rep(TEXT_BYTES) })
end

describe("a client with a thousand streams that it does not read", function()
  local world, rig, hoarder, streams, id, sent, metrics

  before_each(function()
    metrics = "127.0.0.1:" .. ports.free()
    world = system.start({ database = false, role = "runtime", env = { MACP_LOG_LEVEL = "error",
      MACP_METRICS_ADDR = metrics } })
    rig, id, streams, sent = world:client(), crypto.uuid4(), {}, { "start" }
    assert(rig:send("boss", client.start_envelope(id, { ttl_ms = 3600000 })).ok)
    hoarder = client.connect(world.address)
  end)
  after_each(function()
    for _, stream in ipairs(streams) do stream:cancel() end
    hoarder.channel:close()
    world:stop()
    world:close()
  end)

  local function send(name)
    local began = sys.mono_ms()
    local ack = rig:send("ann", client.envelope({ session_id = id, message_id = name, payload = proposal(name) }))
    assert(ack.ok, ack.error and ack.error.message)
    sent[#sent + 1] = name
    return sys.mono_ms() - began
  end

  -- Waits until the program has so many streams and watches open.
  local function await_open(matches, what)
    eventually(function()
      local text, count = tostring(fetch.request({ url = "http://" .. metrics .. "/metrics" }).body), 0
      for n in text:gmatch("\nmacp_runtime_streams_open{[^}]*} (%d+)") do count = count + tonumber(n) end
      return matches(count)
    end, 20000, what)
  end

  local function hoard()
    local subscribe = client.payload("macp.v1.StreamSessionRequest", { subscribe_session_id = id })
    for i = 1, STREAMS do
      streams[i] = assert(hoarder.channel:stream(messages.rpc("StreamSession").path, {
        metadata = { authorization = "Bearer bob" }, prefetch_messages = 1,
      }))
      streams[i]:write(subscribe)
    end
  end

  local function hoard_watches(method)
    for i = 1, STREAMS do
      streams[i] = assert(hoarder.channel:server_stream(messages.rpc(method).path, "", {
        metadata = { authorization = "Bearer bob" }, prefetch_messages = 1,
      }))
    end
  end

  local function expect_served(before, label)
    local slowest = 0
    for i = 1, 20 do slowest = math.max(slowest, send(label .. i)) end
    assert.is_true(system.is_slow or slowest < MAX_WAIT_MS, slowest .. " ms for a message")
    local grown = world:rss_mib() - before
    assert.is_true(system.is_slow or grown < 400, grown .. " MiB more")
    assert.same(sent, (world:history(id))) -- whoever reads has all that was acknowledged
  end

  -- Whoever goes leaves nothing behind, and the next thousand cost no more.
  local function expect_left(before)
    for _, stream in ipairs(streams) do stream:cancel() end
    await_open(function(count) return count == 0 end, "the end of all streams")
    local grown = world:rss_mib() - before
    assert.is_true(system.is_slow or grown < 400, grown .. " MiB more")
  end

  it("W38: costs bounded memory and delays nobody while they replay", function()
    for i = 1, MESSAGES do send("m" .. i) end
    local before = world:rss_mib()
    hoard()
    await_open(function(count) return count == STREAMS end, "a thousand streams")
    expect_served(before, "during ")
    local reader = rig:stream("boss")
    reader:subscribe(id, 1)
    assert.equal("m1", reader:ids(1)[1])
    reader:cancel()
    expect_left(before)
    hoard()
    await_open(function(count) return count == STREAMS end, "another thousand")
    expect_served(before, "again ")
  end)

  it("W38: costs bounded memory and delays nobody while they follow", function()
    hoard()
    await_open(function(count) return count == STREAMS end, "a thousand streams")
    local before = world:rss_mib()
    for i = 1, LIVE_MESSAGES do send("m" .. i) end
    expect_served(before, "after ")
    expect_left(before)
  end)

  -- What every watcher is told, once for each i; about as much as the messages of the streams above.
  local WATCHED = {
    WatchSignals = function(i)
      local ack = rig:send("ann", client.envelope({ message_type = "Signal", mode = "", session_id = "",
        message_id = "s" .. i, payload = client.payload("macp.v1.SignalPayload",
          { signal_type = "noise", data = ("x"):rep(TEXT_BYTES) }) }))
      assert(ack.ok, ack.error and ack.error.message)
    end,
    WatchSessions = function()
      local other = crypto.uuid4()
      assert(rig:send("boss", client.start_envelope(other, { participants = { ("p"):rep(TEXT_BYTES) } })).ok)
      assert(rig:call("boss", "CancelSession", { session_id = other }).ack.ok)
    end,
    WatchPolicies = function(i)
      assert(rig:call("boss", "RegisterPolicy", { policy_descriptor = { policy_id = "policy.flood.n" .. i, mode = "*",
        schema_version = 3, rules = "{}", description = ("x"):rep(4000) } }).ok)
    end,
  }
  for method, cause in pairs(WATCHED) do
    it("W38: costs bounded memory and delays nobody with " .. method, function()
      hoard_watches(method)
      await_open(function(count) return count == STREAMS end, "a thousand watches")
      local before = world:rss_mib()
      for i = 1, LIVE_MESSAGES do cause(i) end
      expect_served(before, "after ")
      local fresh = rig:watch("boss", method) -- who reads is served
      assert(method == "WatchSignals" or fresh:read())
      fresh:cancel()
      expect_left(before)
    end)
  end
end)
