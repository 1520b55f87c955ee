local crypto = require("host.crypto")
local fs = require("host.fs")
local sys = require("host.sys")
local task = require("host.task")

local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")
local stores = require("spec.support.stores")

local function proposal(id)
  return client.payload("macp.modes.decision.v1.ProposalPayload", { proposal_id = id, option = "A" })
end

local function propose(rig, id, name, sender)
  return rig:send(sender or "ann", client.envelope({ session_id = id, message_id = name, payload = proposal(name) }))
end

local function metadata(rig, id) return assert(rig:call("boss", "GetSession", { session_id = id })).metadata end

local function history(rig, id)
  local stream = rig:stream("boss")
  stream:subscribe(id)
  stream:half_close()
  local ids = {}
  while true do
    local response, err = stream:read()
    if response == nil then
      assert.is_nil(err)
      return ids
    end
    ids[#ids + 1] = response.envelope.message_id
  end
end

describe("a restart", function()
  it("W26: leaves metadata, states, ordinals, deadlines and duplicates as they were", function()
    local rig = assert(client.start({ env = { MACP_CHECKPOINT_INTERVAL = "3" } }))
    local open, ended, paused = crypto.uuid4(), crypto.uuid4(), crypto.uuid4()
    for _, id in ipairs({ open, ended, paused }) do
      assert.is_true(rig:send("boss", client.start_envelope(id, { context_id = id })).ok)
      for i = 1, 8 do assert.is_true(propose(rig, id, "m" .. i, i % 2 == 0 and "bob" or "ann").ok) end
    end
    rig:call("boss", "CancelSession", { session_id = ended })
    rig:call("boss", "SuspendSession", { session_id = paused })
    local before = {}
    for _, id in ipairs({ open, ended, paused }) do before[id] = { metadata(rig, id), history(rig, id) } end
    rig = rig:again()
    for id, facts in pairs(before) do
      assert.same(facts[1], metadata(rig, id))
      assert.same(facts[2], history(rig, id))
    end
    assert.is_true(propose(rig, open, "m3").duplicate)
    assert.is_true(propose(rig, open, "m9").ok)
    assert.equal(1, rig:call("boss", "ResumeSession", { session_id = paused }).ack.session_state)
    assert.is_true(propose(rig, paused, "m9").ok)
    rig:destroy()
  end)

  it("expires what ran out meanwhile", function()
    local rig = assert(client.start())
    local id = crypto.uuid4()
    rig:send("boss", client.start_envelope(id, { ttl_ms = 50 }))
    rig:stop()
    task.sleep(60)
    rig = assert(client.start({ dir = rig.dir }))
    require("spec.support.eventually")(function() return metadata(rig, id).state == 3 end, 2000)
    rig:destroy()
  end)

  it("W18: serves sessions that have left memory from the journal", function()
    local rig = assert(client.start({ env = { MACP_SESSION_RETENTION_SECS = "0" } }))
    local id = crypto.uuid4()
    rig:send("boss", client.start_envelope(id))
    propose(rig, id, "m1")
    rig:call("boss", "CancelSession", { session_id = id })
    require("spec.support.eventually")(function() return rig.role.sessions.by_id[id] == nil end, 2000)
    assert.equal(5, metadata(rig, id).state)
    assert.same({ "start", "m1" }, history(rig, id))
    local ack = rig:send("boss", client.start_envelope(id, nil, { message_id = "n" }))
    assert.equal("SESSION_ALREADY_EXISTS", ack.error.code)
    rig = rig:again()
    assert.equal(0, rig.role.sessions.count)
    assert.equal(5, metadata(rig, id).state)
    assert.equal("SESSION_NOT_OPEN", propose(rig, id, "m2").error.code)
    rig:destroy()
  end)

  it("W17: deletes finished sessions after their time in storage", function()
    local rig = assert(client.start({ env = { MACP_SESSION_DISK_RETENTION_SECS = "1" } }))
    local gone, kept = crypto.uuid4(), crypto.uuid4()
    rig:send("boss", client.start_envelope(gone))
    rig:send("boss", client.start_envelope(kept))
    rig:call("boss", "CancelSession", { session_id = gone })
    require("spec.support.eventually")(function()
      rig.role.clock:clean_up()
      return rig.role.journal:count(gone) == 0
    end, 4000)
    local _, err = rig:call("boss", "GetSession", { session_id = gone })
    assert.equal(5, err.status)
    assert.equal(1, metadata(rig, kept).state)
    rig:destroy()
  end)

  it("keeps the journal for itself", function()
    local rig = assert(client.start())
    local other, err = client.start({ dir = rig.dir })
    assert.is_nil(other)
    assert.truthy(err.message:find("journal", 1, true))
    rig:destroy()
  end)
end)

describe("a failing disk", function()
  if sys.fault == nil then return end

  -- Fault points of a store's writes. With rocksdb.sync the group is in the database when it is refused, and with
  -- rocksdb.reopen it stays there for a while.
  local POINTS = {
    file = { "journal.fsync", "journal.write" },
    rocksdb = { "rocksdb.write", "rocksdb.sync", "rocksdb.sync rocksdb.reopen" },
  }

  local function fault(points, action)
    for point in points:gmatch("%S+") do sys.fault(point, action) end
  end

  after_each(function()
    for _, of_store in pairs(POINTS) do
      for _, points in ipairs(of_store) do fault(points) end
    end
  end)

  local cases = {}
  for _, store in ipairs(stores.here()) do
    for _, points in ipairs(POINTS[store.name]) do cases[#cases + 1] = { store, points } end
  end
  for _, case in ipairs(cases) do
    local store, points = case[1], case[2]
    it("refuses with INTERNAL_ERROR and recovers by itself: " .. points, function()
      local rig = assert(client.start({ env = store.env }))
      local id, unborn, paused, brief = crypto.uuid4(), crypto.uuid4(), crypto.uuid4(), crypto.uuid4()
      for _, one in ipairs({ id, paused }) do rig:send("boss", client.start_envelope(one)) end
      assert.is_true(propose(rig, id, "m1").ok)
      assert.is_true(rig:call("boss", "SuspendSession", { session_id = paused }).ack.ok)
      local suspended = metadata(rig, paused)
      rig:send("boss", client.start_envelope(brief, { ttl_ms = 100 }))
      local watch = rig:stream("bob")
      watch:subscribe(id)
      watch:ids(2)
      fault(points, "fail")
      assert.equal("INTERNAL_ERROR", propose(rig, id, "m2").error.code)
      assert.equal("INTERNAL_ERROR", rig:send("boss", client.start_envelope(unborn)).error.code)
      local ack
      for _, row in ipairs({ { "CancelSession", id }, { "SuspendSession", id }, { "CancelSession", paused },
        { "ResumeSession", paused } }) do
        ack = rig:call("boss", row[1], { session_id = row[2] }).ack
        assert.equal("INTERNAL_ERROR", ack.error.code, row[1])
        assert.equal(0, ack.session_state)
      end
      task.sleep(150) -- what is over cannot be noted either, and is not told
      assert.is_false(propose(rig, brief, "late").ok)
      fault(points)
      -- The store may need a write that succeeds before it is itself again.
      eventually(function()
        local answer = rig:call("boss", "GetSession", { session_id = brief })
        return answer and answer.metadata.state == 3
      end, 10000, "the expiry")
      assert.equal(1, metadata(rig, id).state)
      assert.same(suspended, metadata(rig, paused))
      local _, err = rig:call("boss", "GetSession", { session_id = unborn })
      assert.equal(5, err.status)
      ack = propose(rig, id, "m2")
      assert.same({ true, false }, { ack.ok, ack.duplicate })
      assert.is_true(rig:send("boss", client.start_envelope(unborn)).ok)
      assert.same({ "m2" }, watch:ids(1))
      watch:cancel()
      rig = rig:again()
      assert.same({ "start", "m1", "m2" }, history(rig, id))
      assert.same(suspended, metadata(rig, paused))
      assert.equal(1, rig:call("boss", "ResumeSession", { session_id = paused }).ack.session_state)
      assert.equal(3, metadata(rig, brief).state)
      rig:destroy()
    end)
  end

  for _, store in ipairs(stores.here()) do
    it("loses nothing that was acknowledged when flushes fail under load: " .. store.name, function()
      local rig = assert(client.start({ env = store.env }))
      local id = crypto.uuid4()
      rig:send("boss", client.start_envelope(id))
      local acknowledged, tasks = {}, {}
      for worker = 1, 8 do
        tasks[worker] = task.spawn(function()
          for i = 1, 30 do
            local name = string.format("w%d-%d", worker, i)
            local ack = propose(rig, id, name)
            if ack.ok then acknowledged[#acknowledged + 1] = name end
          end
          return true
        end)
      end
      for _ = 1, 5 do
        task.sleep(10)
        fault(POINTS[store.name][1], "fail")
        task.sleep(3)
        fault(POINTS[store.name][1])
      end
      for _, running in ipairs(tasks) do assert.is_true(running:join()) end
      rig = rig:again()
      local stored = {}
      for _, name in ipairs(history(rig, id)) do
        assert.is_nil(stored[name])
        stored[name] = true
      end
      for _, name in ipairs(acknowledged) do assert.is_true(stored[name]) end
      assert.is_true(#acknowledged > 30)
      rig:destroy()
    end)
  end
end)

describe("the directory of a runtime", function()
  it("holds the sources of every revision that sessions use", function()
    local rig = assert(client.start())
    local entries = assert(fs.list(rig.dir .. "/modes"))
    assert.is_true(#entries >= 2)
    local files = assert(rig.role.archive:get(rig.role.modes:get("macp.mode.decision.v1").hash))
    assert.is_string(files["mode.lua"])
    rig:destroy()
  end)
end)
