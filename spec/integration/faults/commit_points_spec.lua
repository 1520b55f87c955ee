-- kill -9 at every point of a commit, for every store: what was acknowledged is there, what was refused is not, and who
-- follows sees every envelope once, over all restarts. The program kills itself, so that the point is hit exactly.

local crypto = require("host.crypto")
local fs = require("host.fs")
local sys = require("host.sys")
local task = require("host.task")

local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")
local redis = require("spec.support.redis")
local stores = require("spec.support.stores")
local system = require("spec.support.system")

local SENDERS = { "ann", "bob" }
local OPEN, CANCELLED, CREATED = 1, 5, 1
local LARGE = 250000 -- bytes of a message when a segment shall be full soon
local OPTION = 20000 -- bytes of what a message adds to the state when it shall be large soon
local REST_MS = 400 -- longer than a session has to be silent before it counts as one at rest
local CHURN = 10 -- such messages in a session whose history is dropped

-- By store: what MACP_FAULT arms (N: hits that pass first), and whether messages are large; `churns`: those of sessions
-- whose histories are dropped, so that most of a segment is dead. Behind a failure that is reported, the points of the
-- repair are hit.
local POINTS = {
  file = {
    { "journal.write=kill:N" }, { "journal.fsync=kill:N" }, { "journal.synced=kill:N" },
    { "journal.rotate=kill", is_large = true }, { "journal.renamed=kill", is_large = true },
    { "journal.before_remove=kill", churns = true }, { "journal.removed=kill", churns = true },
  },
  rocksdb = {
    { "rocksdb.before_write=kill:N" }, { "rocksdb.after_write=kill:N" },
    { "rocksdb.write=fail:N,rocksdb.reopen=kill" }, { "rocksdb.sync=fail:N,rocksdb.reopen=kill" },
    { "rocksdb.sync=fail:N,rocksdb.take_back=kill" },
  },
  redis = { { "redis.send=kill:N" }, { "redis.applied=kill:N" } },
}
local PASSES = { 3, 11, 20 }
local STRICT = { MACP_STRICT_RECOVERY = "1" }

-- In every store: what is written beside the messages. `env` has settings of the life that ends there; with `collects`
-- finished sessions are deleted, with `rests` the senders pause now and then, which is when checkpoints are written (with
-- `grows` large ones), with `at_start` it ends before it serves.
local DROPS = { MACP_COMPACT_TERMINAL = "drop" }
local COLLECTS = { MACP_COMPACT_TERMINAL = "drop", MACP_SESSION_DISK_RETENTION_SECS = "1",
  MACP_CLEANUP_INTERVAL_SECS = "1" }
local LEAVES = { MACP_SESSION_RETENTION_SECS = "0" }
local LEAVES_AND_COLLECTS = { MACP_SESSION_RETENTION_SECS = "0", MACP_SESSION_DISK_RETENTION_SECS = "1",
  MACP_CLEANUP_INTERVAL_SECS = "1" }
local CHECKPOINTS = { MACP_CHECKPOINT_INTERVAL = "4" }
local EVERYWHERE = {
  { "checkpoint.before_replace=kill:1", env = CHECKPOINTS, rests = true },
  { "checkpoint.replaced=kill:1", env = CHECKPOINTS, rests = true },
  { "checkpoint.portion=kill", env = CHECKPOINTS, rests = true, grows = true },
  { "checkpoint.portion=kill:4", env = CHECKPOINTS, rests = true, grows = true },
  { "ending.before_replace=kill:5", env = DROPS }, { "ending.replaced=kill:5", env = DROPS },
  { "ending.before_remove=kill:1", env = COLLECTS, collects = true },
  { "ending.removed=kill", env = COLLECTS, collects = true },
  { "journal.spill_write=kill:2", env = LEAVES },
  { "journal.spill_read=kill:1", env = LEAVES_AND_COLLECTS, collects = true },
  { "archive.before=kill:2", at_start = true }, { "archive.after=kill:2", at_start = true },
}

local function proposal(name, is_large, grows)
  return client.payload("macp.modes.decision.v1.ProposalPayload", { proposal_id = name,
    option = grows and ("A"):rep(OPTION) or "A", supporting_data = is_large and ("x"):rep(LARGE) or nil })
end

-- --- what is known on this side of the wire ---

local function new_book()
  return { id = crypto.uuid4(), acked = {}, maybe = {}, refused = {}, seen = {}, others = {} }
end

-- Books an answer to the envelope `name`; false when there was none. Any refusal must stay one.
local function note(book, name, response, err)
  if response == nil then
    assert(err.code == "RPC", err.message)
    book.maybe[name] = true
    return false
  end
  if response.ack.ok then book.acked[#book.acked + 1] = name else book.refused[name] = response.ack.error.code end
  return true
end

-- One sender until nobody answers: messages that are accepted, and between them some that are not. (yields)
local function talk(rig, book, sender, round, case)
  for i = 1, 400 do
    if case.rests and i % 100 == 0 then task.sleep(REST_MS) end
    local name = string.format("%s-%d-%d", sender, round, i)
    local is_bad = i % 3 == 0
    local response, err = rig:call(sender, "Send", { envelope = client.envelope({
      session_id = book.id, message_id = name, payload = is_bad and "\255" or proposal(name, case.is_large, case.grows),
    }) })
    if not note(book, name, response, err) then return true end
    if is_bad then assert.is_string(book.refused[name]) end
  end
  return true
end

-- Starts and cancels sessions until nobody answers; each third start is one that is refused. With `churns` they hold
-- large messages. (yields)
local function come_and_go(rig, book, churns)
  for i = 1, 400 do
    local other = { id = crypto.uuid4(), is_bad = i % 3 == 0 }
    book.others[#book.others + 1] = other
    local response = rig:call("boss", "Send",
      { envelope = client.start_envelope(other.id, { ttl_ms = other.is_bad and 0 or 3600000 }) })
    if response == nil then return true end
    other.started = response.ack.ok
    for n = 1, other.started and churns and CHURN or 0 do
      local message = client.envelope({ session_id = other.id, message_id = "m" .. n,
        payload = proposal("p" .. n, true) })
      if rig:call("ann", "Send", { envelope = message }) == nil then return true end
    end
    other.is_ending = other.started -- perhaps without an answer
    response = other.started and rig:call("boss", "CancelSession", { session_id = other.id })
    if response == nil then return true end
    other.cancelled = response and response.ack.ok
  end
  return true
end

-- Follows the session from where it was left, until the connection ends. (yields)
local function follow(rig, book)
  local stream = rig:stream("bob")
  stream:subscribe(book.id, #book.seen)
  while true do
    local response = stream:read()
    if response == nil then return true end
    assert(response.envelope, response.error and response.error.message)
    book.seen[#book.seen + 1] = response.envelope.message_id
  end
end

-- Watches sessions until the connection ends: each is announced once, and none opens again. (yields)
local function watch(rig)
  local stream, created, state = rig:watch("boss", "WatchSessions"), {}, {}
  while true do
    local response = stream:read()
    if response == nil then return true end
    local event = response.event
    local id = event.session.session_id
    if event.event_type == CREATED then
      assert(not created[id], "announced twice")
      created[id] = true
    end
    assert(created[id], "an event before the announcement")
    assert(not (state[id] == CANCELLED and event.event_type ~= CREATED), "an event after the end")
    state[id] = event.session.state
  end
end

-- --- what must hold ---

local function check_histories(world, book)
  local there, ids = {}, (world:history(book.id))
  for _, name in ipairs(ids) do
    assert(not there[name], name .. " is there twice")
    there[name] = true
    assert(book.refused[name] == nil, name .. " was refused with " .. tostring(book.refused[name]))
  end
  for _, name in ipairs(book.acked) do assert(there[name], name .. " was acknowledged and is not there") end
  local known = 0
  for _, name in ipairs(ids) do if book.maybe[name] then known = known + 1 end end
  assert.equal(#book.acked + known, #ids)
  -- What a follower was shown is the beginning of the history, and stays it.
  for i, name in ipairs(book.seen) do assert.equal(name, ids[i], "envelope " .. i .. " that a follower saw") end
  return ids
end

local function check_others(world, book, may_be_gone)
  for _, other in ipairs(book.others) do
    local response, err = world:client():call("boss", "GetSession", { session_id = other.id })
    local state = response and response.metadata.state
    if response == nil then assert.equal(5, err.status) end
    assert(not (other.is_bad and state), "a refused session is there")
    assert(state or not other.started or (may_be_gone and other.is_ending),
      "a session that was acknowledged is not there")
    assert(not other.cancelled or state == CANCELLED or (may_be_gone and state == nil), "a cancelled session is open")
    assert(not (other.is_gone and state), "a deleted session is back")
    other.is_gone = other.started and state == nil
    if state then assert(state == CANCELLED or state == OPEN) end
  end
end

-- One life of the program with a fault armed, to its end. Every other one replaces the histories of finished sessions,
-- which are commits, too. (yields)
local function live_until_killed(world, book, round, fault, case)
  local env = { MACP_FAULT = fault, MACP_COMPACT_TERMINAL = (round % 2 == 0 or case.churns) and "drop" or "keep" }
  for name, value in pairs(case.env or {}) do env[name] = value end
  local ok, err = pcall(world.serve, world, env)
  if not ok then
    assert(tostring(err):find("the program ended", 1, true), tostring(err))
    return world.program:wait()
  end
  local rig, tasks = world:client(), {}
  tasks[1], tasks[2] = task.spawn(follow, rig, book), task.spawn(watch, rig)
  tasks[3] = task.spawn(come_and_go, rig, book, case.churns)
  for _, sender in ipairs(SENDERS) do tasks[#tasks + 1] = task.spawn(talk, rig, book, sender, round, case) end
  for _, running in ipairs(tasks) do assert(running:join()) end
  world:disconnect()
  assert.equal(9, world.program:wait().signal, world.program:output():sub(-2000))
end

-- A deletion that was cut short is completed by the next life that deletes. (yields)
local function finish_collecting(world, book)
  world:disconnect()
  world:crash()
  world:serve(COLLECTS)
  local client_of = world:client()
  eventually(function()
    for _, other in ipairs(book.others) do
      if other.cancelled and client_of:call("boss", "GetSession", { session_id = other.id }) then return false end
    end
    return true
  end, 20000, "deletion of what is cancelled")
  check_others(world, book, true)
end

-- Ends at a point before it serves; the next start does the rest. (yields)
local function play_start(env, case)
  local new_world = system.new({ database = false, role = "runtime", env = env })
  local ok, err = pcall(function(world)
    assert.is_false((pcall(world.serve, world, { MACP_FAULT = case[1] })))
    assert.equal(9, world.program:wait().signal, world.program:output():sub(-2000))
    world:serve(STRICT)
    local id = crypto.uuid4()
    assert(world:client():send("boss", client.start_envelope(id, { ttl_ms = 3600000 })).ok)
    world:disconnect()
    world:crash()
    world:serve(STRICT) -- the revision that the session is pinned to is read from the archive
    local message = client.envelope({ session_id = id, message_id = "p", payload = proposal("p") })
    assert(world:client():send("ann", message).ok)
    assert.same({ "start", "p" }, (world:history(id)))
    world:stop()
  end, new_world)
  new_world:close()
  if not ok then error(err, 0) end
end

local function play(env, case)
  if case.at_start then return play_start(env, case) end
  system.with({ database = false, role = "runtime", env = env }, function(world)
    local book = new_book()
    assert(world:client():send("boss", client.start_envelope(book.id, { ttl_ms = 3600000 })).ok)
    book.acked[1] = "start"
    world:disconnect()
    world:crash()
    for round, passes in ipairs(case[1]:find(":N", 1, true) and PASSES or { 0 }) do
      if round > 1 then
        world:disconnect()
        world:crash()
      end
      live_until_killed(world, book, round, (case[1]:gsub("N", tostring(passes))), case)
      world:serve(STRICT)
      check_histories(world, book)
      check_others(world, book, case.collects)
    end
    assert.is_true(#book.acked > 10 and #book.seen > 10, #book.acked .. " acknowledged, " .. #book.seen .. " seen")
    if case.collects then finish_collecting(world, book) end
    local ids = check_histories(world, book)
    local reader = world:client():stream("bob")
    reader:subscribe(book.id, #book.seen)
    local rest = reader:ids(#ids - #book.seen)
    assert.same(rest, { unpack(ids, #book.seen + 1) })
    reader:cancel()
    world:stop()
  end)
end

-- Runs fn(env) with the settings of a store. (yields)
local function with_store(store, fn)
  if store.name ~= "redis" then return fn(store.env) end
  local server = redis.start()
  local ok, err = pcall(fn, { MACP_STORAGE_BACKEND = "redis", MACP_REDIS_URL = server.url,
    MACP_REDIS_LEASE_MS = "500" })
  server:stop()
  if not ok then error(err, 0) end
end

describe("kill -9 in the middle of a commit", function()
  if sys.fault == nil then
    pending("is tested in builds with fault points")
    return
  end

  local all = stores.here()
  if redis.is_built() then all[#all + 1] = { name = "redis" } end
  for _, store in ipairs(all) do
    local function add(case)
      it("loses nothing acknowledged and keeps nothing refused: " .. store.name .. ", " .. case[1], function()
        with_store(store, function(env) play(env, case) end)
      end)
    end
    for _, case in ipairs(POINTS[store.name]) do add(case) end
    for _, case in ipairs(EVERYWHERE) do add(case) end
  end

  it("has every fault point of the stores and of the runtime in its table", function()
    local named, found = {}, 0
    local function name(cases)
      for _, case in ipairs(cases) do
        for point in case[1]:gmatch("[%w_]+%.[%w_]+") do named[point] = true end
      end
    end
    for _, cases in pairs(POINTS) do name(cases) end
    name(EVERYWHERE)
    named["left_behind.stored"] = true -- see redis_registry_spec
    named["journal.owner"] = true -- see ownership_spec: not part of a commit
    local in_lua = 'fault%("([^"]+)"%)'
    for dir, pattern in pairs({ ["host/journal"] = 'fault_hit%("([^"]+)"%)', ["lua/macp/runtime"] = in_lua,
      ["lua/macp/runtime/policies"] = in_lua }) do
      for _, entry in ipairs(assert(fs.list(dir))) do
        local text = entry.name:find("%.%a+$") and assert(fs.read(dir .. "/" .. entry.name)) or ""
        for point in tostring(text):gmatch(pattern) do
          found = found + 1
          assert(named[point], point .. " is in no row")
        end
      end
    end
    assert.is_true(found >= 20, found .. " points")
  end)
end)
