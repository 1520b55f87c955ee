-- Planes that tell each other of events over a real Redis. What streams send are rows: whatever Redis loses, repeats or
-- invents, every subscriber gets each event once and in order.

local crypto = require("host.crypto")
local fs = require("host.fs")
local redis = require("host.redis")
local task = require("host.task")

local json = require("macp.core.json")

local certificates = require("spec.support.certificates")
local event_lists = require("spec.support.event_lists")
local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")
local ports = require("spec.support.ports")
local program = require("spec.support.program")
local redis_server = require("spec.support.redis")

local CHANNEL = "macp:stream-hub"
local NEVER = 1e12

if not redis.connect then
  describe("planes over Redis", function() pending("is tested in builds with hiredis") end)
  return
end

local rig -- database and runtime; each group has planes and a Redis of its own

setup(function() rig = plane_rig.start({ no_plane = true }) end)
teardown(function() rig:destroy() end)

local function settings(url) return { STREAM_HUB_STRATEGY = "redis", REDIS_URL = url } end

describe("planes over Redis", function()
  local server, owner, other, id

  local function ask(plane) rig.plane = plane end

  local function is_well(plane) return plane.announce.is_well end

  -- Opens a stream of the run at the plane that does not observe it, and waits until it is on the live tail.
  local function watch()
    ask(other)
    local stream = rig:stream("/runs/" .. id .. "/stream?afterSeq=0&includeSnapshot=false")
    local topic = eventually(function()
      local found = other.hub.topics[id]
      return found and found.followed and found
    end)
    return stream, topic
  end

  -- From here on the other plane hears of events by messages only.
  local function without_looking() other.follower.polled_at = NEVER end

  setup(function()
    server = redis_server.start()
    owner = rig:start_plane(settings(server.url))
  end)
  teardown(function()
    owner:close()
    rig.plane = nil
    server:stop()
  end)

  before_each(function()
    id = crypto.uuid4()
    ask(owner)
    rig:open_session(id)
    rig:await(id, "running")
    other = rig:start_plane(settings(server.url))
    eventually(function() return is_well(owner) and is_well(other) end, 15000)
  end)
  after_each(function()
    ask(owner)
    other:close()
  end)

  it("P20: stream every event once and in order, and end it with its run", function()
    local stream = watch()
    without_looking()
    rig:propose(id, "p1")
    for i = 1, 100 do rig:evaluate(id, i % 2 == 0 and "ann" or "bob", "p1") end
    rig:commit(id)
    stream:read_all()
    local expected = event_lists.seqs(rig:events(id))
    assert.is_true(#expected > 100)
    assert.same(expected, stream:seqs())
  end)

  it("publish what other control planes read", function()
    local conn = assert(redis.connect(server.url))
    assert(conn:send("SUBSCRIBE", CHANNEL))
    assert(conn:next())
    rig:propose(id, "p1")
    rig:commit(id)
    local told, last = {}, nil
    while last == nil or last.event ~= "complete" do
      last = assert(json.decode(conn:next()[3]))
      if last._runId == id then told[#told + 1] = last end
    end
    conn:close()
    assert.same({ _origin = owner.name, _runId = id, event = "complete", data = { runId = id } }, last)
    local events = {}
    for _, event in ipairs(rig:events(id)) do events[event.seq] = event end
    assert.is_true(#told > 5)
    for i = 1, #told - 1 do
      assert.same({ "canonical_event", owner.name }, { told[i].event, told[i]._origin })
      assert.same(events[told[i].data.seq], told[i].data)
    end
  end)

  it("lose and repeat nothing when Redis is killed under load and comes back", function()
    local stream = watch()
    local reader = task.spawn(function() return stream:read_all() end)
    rig:propose(id, "p1")
    local sent, is_over = 0, false
    local load = task.spawn(function()
      while not is_over do
        sent = sent + 1
        rig:evaluate(id, sent % 2 == 0 and "ann" or "bob", "p1")
      end
      return true
    end)
    local function more()
      local goal = sent + 20
      eventually(function() return sent >= goal end, 15000)
    end
    for _ = 1, 2 do
      more()
      server:kill()
      eventually(function() return not is_well(owner) and not is_well(other) end, 15000)
      local _, ready = rig:get("/readyz")
      assert.equal("degraded", ready.streamHub)
      more()
      server:start()
      eventually(function() return is_well(owner) and is_well(other) end, 15000)
    end
    more()
    is_over = true
    assert(load:join())
    local _, ready = rig:get("/readyz")
    assert.equal("ok", ready.streamHub)
    rig:commit(id)
    reader:join()
    assert.is_true(sent >= 100)
    assert.same(event_lists.seqs(rig:events(id)), stream:seqs())
  end)

  it("look at everything when a sender could not tell something", function()
    local stream, topic = watch()
    without_looking()
    local out = owner.announce.out
    owner.announce.out = nil -- as while its connection is away
    local before = topic.last_event_seq
    rig:propose(id, "p1")
    eventually(function() return owner.announce.has_missed end)
    assert.equal(before, topic.last_event_seq)
    owner.announce.out = out
    owner.announce:stored({ runs = { { run = { id = crypto.uuid4() }, n = 1, documents = { "{}" },
      types = { "message.received" } } } }) -- a batch of a run that nobody watches
    eventually(function() return topic.last_event_seq > before end)
    rig:commit(id)
    stream:read_all()
    assert.same(event_lists.seqs(rig:events(id)), stream:seqs())
  end)

  it("believe no message", function()
    local stream, topic = watch()
    without_looking()
    local before = topic.last_event_seq
    local conn = assert(redis.connect(server.url))
    local function say(text)
      assert(conn:send("PUBLISH", CHANNEL, text))
      assert.is_true(conn:next() >= 2)
    end
    for _, text in ipairs({
      "", "no JSON", '{"_runId":"' .. id .. '"', '{"_runId":"' .. id .. '","event":"canonical_event"}',
      '{"_runId":"' .. id .. '","event":"canonical_event","data":{"seq":"x"}}',
      '{"_runId":"' .. id .. '","event":"canonical_event","data":{"seq":' .. before + 1000
        .. ',"type":"run.completed"}}',
      '{"_runId":"' .. id .. '","event":"snapshot","data":{"run":{"status":"failed"}}}',
      '{ "event": "complete", "data": { "runId": "' .. id .. '" }, "_runId": "' .. id .. '" }',
      '{"_runId":"nobody","event":"complete"}', '[' .. ("x"):rep(100000),
    }) do
      say(text)
    end
    rig:propose(id, "p1")
    rig:commit(id)
    stream:read_all()
    conn:close()
    assert.same(event_lists.seqs(rig:events(id)), stream:seqs())
  end)

  it("hear of events from control planes that say no origin", function()
    local stream, topic = watch()
    without_looking()
    local before = topic.last_event_seq
    local out = owner.announce.out
    owner.announce.out, owner.announce.has_missed = nil, false
    rig:propose(id, "p1")
    ask(owner)
    local events = eventually(function()
      local found = rig:events(id)
      return found[#found].seq > before and found
    end)
    assert.equal(before, topic.last_event_seq)
    local conn = assert(redis.connect(server.url))
    assert(conn:send("PUBLISH", CHANNEL, json.encode({ _runId = id, event = "canonical_event",
      data = events[#events] })))
    eventually(function() return topic.last_event_seq > before end)
    conn:close()
    owner.announce.out = out
    stream:close()
  end)

  it("start without Redis, and use it once it is there", function()
    server:kill()
    local third = rig:start_plane(settings(server.url))
    ask(third)
    local _, ready = rig:get("/readyz")
    assert.equal("degraded", ready.streamHub)
    server:start()
    eventually(function() return is_well(third) end, 15000)
    ask(owner)
    third:close()
  end)
end)

describe("planes over a Redis with TLS, user and password", function()
  local certs, server

  setup(function()
    certs = assert(fs.temp_dir("macp-redis-certs-"))
    certificates.make(certs)
    server = redis_server.start({ certs = certs, port = ports.free() })
    server:command("ACL", "SETUSER", "ann", "on", ">s3cret", "resetchannels", "&" .. CHANNEL, "+ping", "+publish",
      "+subscribe")
    server:command("ACL", "SETUSER", "bob", "on", ">s3cret", "resetchannels", "&other", "+ping", "+publish",
      "+subscribe")
  end)
  teardown(function()
    server:stop()
    fs.remove_tree(certs)
  end)

  local function url(account, files)
    return string.format("rediss://%s@localhost:%d?ca=%s/%s&cert=%s/client.pem&key=%s/client.key", account, server.port,
      certs, files or "ca.pem", certs, certs)
  end

  it("tell each other of events", function()
    local owner = rig:start_plane(settings(url("ann:s3cret")))
    rig.plane = owner
    local id = crypto.uuid4()
    rig:open_session(id)
    rig:await(id, "running")
    local other = rig:start_plane(settings(url("ann:s3cret")))
    eventually(function() return owner.announce.is_well and other.announce.is_well end, 15000)
    rig.plane = other
    local stream = rig:stream("/runs/" .. id .. "/stream?afterSeq=0&includeSnapshot=false")
    eventually(function()
      local topic = other.hub.topics[id]
      return topic and topic.followed
    end)
    other.follower.polled_at = NEVER
    rig:propose(id, "p1")
    for i = 1, 20 do
      rig:evaluate(id, i % 2 == 0 and "ann" or "bob", "p1", ("x"):rep(20000)) -- more than one TLS record
    end
    rig:commit(id)
    stream:read_all()
    assert.same(event_lists.seqs(rig:events(id)), stream:seqs())
    rig.plane = nil
    other:close()
    owner:close()
  end)

  for _, case in ipairs({
    { "a wrong password", function() return url("ann:wr0ng") end,
      "refuses the password of user `ann`: WRONGPASS" },
    { "a certificate of others", function() return url("ann:s3cret", "other-ca.pem") end,
      "its certificate is refused: self-signed certificate in certificate chain" },
  }) do
    it("do not start with " .. case[1] .. ", and tell no secret", function()
      local env = settings(case[2]())
      env.DATABASE_URL, env.PORT, env.HOST = rig.url, "0", "127.0.0.1"
      env.RUNTIME_ADDRESS, env.RUNTIME_BEARER_TOKEN = rig.runtime.role.address, "plane"
      local run = program.start({ args = { "serve", "--role", "plane" }, env = env })
      assert.is_true(run:wait(60000).code ~= 0)
      local said = run:output()
      assert.truthy(said:find("REDIS_URL: Redis at rediss://localhost:" .. server.port .. "/0", 1, true), said)
      assert.truthy(said:find(case[3], 1, true), said)
      assert.is_nil(said:find("wr0ng", 1, true))
      assert.is_nil(said:find("s3cret", 1, true))
    end)
  end

  it("say that a user may not use the channel, and go on looking", function()
    local plane = rig:start_plane(settings(url("bob:s3cret")))
    local failure = eventually(function() return plane.supervisor.failures[1] end, 15000)
    assert.equal("announce", failure.name)
    assert.truthy(failure.error:find("refuses: NOPERM", 1, true), failure.error)
    assert.is_nil(failure.error:find("s3cret", 1, true))
    assert.is_false(plane.announce.is_well)
    plane:close()
  end)
end)
