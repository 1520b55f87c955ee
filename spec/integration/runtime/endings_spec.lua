local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")
local redis = require("spec.support.redis")
local stores = require("spec.support.stores")

local crypto = require("host.crypto")

local function propose(rig, id, name)
  return rig:send("ann", client.envelope({
    session_id = id, message_id = name,
    payload = client.payload("macp.modes.decision.v1.ProposalPayload", { proposal_id = name, option = "A" }),
  }))
end

local function finished(rig, n)
  local id = crypto.uuid4()
  assert.is_true(rig:send("boss", client.start_envelope(id)).ok)
  for i = 1, n do assert.is_true(propose(rig, id, "m" .. i).ok) end
  assert.is_true(rig:call("boss", "CancelSession", { session_id = id }).ack.ok)
  return id
end

local function metadata(rig, id) return assert(rig:call("boss", "GetSession", { session_id = id })).metadata end

local BACKENDS = { { "memory", { MACP_MEMORY_ONLY = "1" } } }
for _, store in ipairs(stores.here()) do BACKENDS[#BACKENDS + 1] = { store.name, store.env } end
if redis.is_built() then BACKENDS[#BACKENDS + 1] = { "redis", { MACP_STORAGE_BACKEND = "redis" } } end

for _, backend in ipairs(BACKENDS) do
  describe("finished sessions in the store " .. backend[1], function()
    local rig, server

    setup(function()
      server = backend[1] == "redis" and redis.start() or nil
      if server then backend[2].MACP_REDIS_URL = server.url end
    end)
    teardown(function()
      if server then server:stop() end
    end)

    local function start(env)
      local all = { MACP_SESSION_RETENTION_SECS = "0", MACP_CHECKPOINT_INTERVAL = "2" }
      for _, set in ipairs({ backend[2], env or {} }) do
        for name, value in pairs(set) do all[name] = value end
      end
      rig = assert(client.start({ env = all }))
    end

    after_each(function() rig:destroy() end)

    local function evicted(id)
      eventually(function() return rig.role.sessions.by_id[id] == nil end, 3000)
    end

    it("W18 W40: are served from storage, their history from any ordinal, and their ids stay taken", function()
      start()
      local id = finished(rig, 5)
      evicted(id)
      assert.equal(5, metadata(rig, id).state)
      local stream = rig:stream("ann")
      stream:subscribe(id, 0)
      assert.same({ "start", "m1", "m2", "m3", "m4", "m5" }, stream:ids(6))
      stream:subscribe(id, 4)
      assert.same({ "m4", "m5" }, stream:ids(2))
      stream:half_close()
      assert.is_nil(stream:read())
      assert.is_true(propose(rig, id, "m3").duplicate)
      assert.equal("SESSION_NOT_OPEN", propose(rig, id, "m6").error.code)
      local again = rig:send("boss", client.start_envelope(id))
      assert.same({ true, true, 5 }, { again.ok, again.duplicate, again.session_state })
      local other = rig:send("boss", client.start_envelope(id, nil, { message_id = "other" }))
      assert.equal("SESSION_ALREADY_EXISTS", other.error.code)
    end)

    it("leave nothing in memory", function()
      start()
      for _ = 1, 20 do evicted(finished(rig, 3)) end
      local role = rig.role
      eventually(function() return not role.checkpoints:is_busy() end)
      assert.same({ 0, 0, 0, 0, 0 }, {
        role.sessions.count, role.sessions.open, role.sessions.by_name.count, role.sessions.by_start.count,
        role.sessions.deadlines.count,
      })
      assert.is_nil(next(role.sessions.by_id))
      assert.is_nil(next(role.sessions.open_by))
    end)

    it("are dropped when so configured: facts and ids stay, envelopes go, subscribers are told", function()
      start({ MACP_COMPACT_TERMINAL = "drop" })
      local id = finished(rig, 5)
      evicted(id)
      eventually(function()
        return (rig.role.journal:count(id)) == 3
      end, 3000, "the start, the ids and a summary")
      assert.equal(5, metadata(rig, id).state)
      assert.equal(5, metadata(rig, id).participant_activity[1].message_count)
      assert.is_true(propose(rig, id, "m3").duplicate)
      local stream = rig:stream("ann")
      stream:subscribe(id, 5)
      local response = assert(stream:read())
      assert.equal("FAILED_PRECONDITION", response.error.code)
      assert.equal(id, response.error.session_id)
      assert.truthy(response.error.message:find("smallest after_sequence is 6", 1, true))
      stream:subscribe(id, 6)
      stream:half_close()
      local last, err = stream:read()
      assert.same({}, { last, err })
    end)
  end)
end

for _, store in ipairs(stores.here()) do
  describe("a restart on the store " .. store.name, function()
    it("brings open sessions back from their checkpoints, finished ones as names, and drops what is due", function()
      local rig = assert(client.start({ env = {
        MACP_STORAGE_BACKEND = store.env.MACP_STORAGE_BACKEND, MACP_CHECKPOINT_INTERVAL = "2",
        MACP_SESSION_DISK_RETENTION_SECS = "3600",
      } }))
      local open, done = crypto.uuid4(), finished(rig, 3)
      assert.is_true(rig:send("boss", client.start_envelope(open)).ok)
      for i = 1, 12 do assert.is_true(propose(rig, open, "m" .. i).ok) end
      local key = "checkpoint/" .. open
      eventually(function() return rig.role.journal:count(key) > 0 and not rig.role.checkpoints:is_busy() end, 3000)
      assert.equal(0, (rig.role.journal:count("checkpoint/" .. done)))
      rig = rig:again()
      assert.is_true(rig.role.sessions.by_id[done].is_stub)
      assert.is_nil(rig.metrics:render():find("macp_replay_mismatches_total [1-9]"))
      assert.is_true(propose(rig, open, "m13").ok)
      assert.equal(14, rig.role.sessions:find(open).ordinals)
      local clock = rig.role.clock
      clock.now_ms = function() return require("host.sys").now_ms() + 3601000 end
      clock:clean_up()
      eventually(function() return rig.role.journal:count(done) == 0 end, 3000)
      assert.is_true(rig.role.journal:count(open) > 0)
      rig:destroy()
    end)
  end)
end

describe("a store", function()
  it("of a newer program is refused at start", function()
    local rig = assert(client.start())
    local codec = require("macp.protocol.messages").codec("macp.internal.v1.Format")
    assert(rig.role.journal:replace("macp/format", { codec:encode({ version = 99, written_by = "9.0" }) }))
    rig:stop()
    local other, err = client.start({ dir = rig.dir })
    assert.is_nil(other)
    assert.truthy(err.message:find(rig.dir .. ": it has format 99, written by version 9.0", 1, true))
    require("host.fs").remove_tree(rig.dir)
  end)

  it("W8: with a history that cannot be read keeps the id taken and serves the others", function()
    local rig = assert(client.start())
    local broken, fine = crypto.uuid4(), crypto.uuid4()
    assert.is_true(rig:send("boss", client.start_envelope(fine)).ok)
    local journal = rig.role.journal
    assert(journal:wait((journal:append(broken, "\255\255"))))
    rig = rig:again()
    assert.equal(1, metadata(rig, fine).state)
    local _, err = rig:call("boss", "GetSession", { session_id = broken })
    assert.equal(13, err.status)
    assert.truthy(err.message:find("session " .. broken .. ", record 1", 1, true))
    assert.equal("SESSION_ALREADY_EXISTS", rig:send("boss", client.start_envelope(broken)).error.code)
    assert.equal("INTERNAL_ERROR", propose(rig, broken, "m1").error.code)
    rig:stop()
    local strict, failure = client.start({ dir = rig.dir, env = { MACP_STRICT_RECOVERY = "1" } })
    assert.is_nil(strict)
    assert.truthy(failure.message:find("session " .. broken .. ", record 1", 1, true))
    require("host.fs").remove_tree(rig.dir)
  end)
end)
