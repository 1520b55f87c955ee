-- Known faults of other control planes that no other spec names: each is looked for here.

local crypto = require("host.crypto")
local task = require("host.task")

local json = require("macp.core.json")

local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")
local runtime = require("spec.support.runtime_client")

local POSTS = 80
local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

describe("a plane whose streams are looked at when they are quiet", function()
  local rig

  setup(function() rig = plane_rig.start({ env = { STREAM_IDLE_TIMEOUT_MS = "100" } }) end)
  teardown(function() rig:destroy() end)

  local function has_event(id, event_type)
    eventually(function()
      for _, event in ipairs(rig:events(id)) do
        if event.type == event_type then return true end
      end
    end, 10000, event_type)
  end

  it("P5: goes on with sessions that say nothing, are suspended, and tells cancelled ones from failed ones", function()
    local quiet, paused = crypto.uuid4(), crypto.uuid4()
    for _, id in ipairs({ quiet, paused }) do
      rig:open_session(id)
      rig:await(id, "running", 10000)
    end
    assert.is_true(rig.runtime:call("boss", "SuspendSession", { session_id = paused, reason = "lunch" }).ack.ok)
    rig:await(paused, "suspended", 10000)
    task.sleep(800) -- several times what makes a stream quiet
    assert.same({ "running", "suspended" }, { select(2, rig:get("/runs/" .. quiet)).status,
      select(2, rig:get("/runs/" .. paused)).status })
    rig:propose(quiet, "p1")
    has_event(quiet, "proposal.created")
    assert.is_true(rig.runtime:call("boss", "ResumeSession", { session_id = paused, reason = "back" }).ack.ok)
    rig:await(paused, "running", 10000)
    rig:propose(paused, "p1")
    has_event(paused, "proposal.created")
    assert.is_true(rig.runtime:call("boss", "CancelSession", { session_id = paused, reason = "enough" }).ack.ok)
    assert.is_nil(json.absent(rig:await(paused, "cancelled", 10000).errorCode))
  end)
end)

describe("a plane with two connections", function()
  local rig

  setup(function() rig = plane_rig.start({ env = { DB_POOL_MAX = "2" } }) end)
  teardown(function() rig:destroy() end)

  it("P3: refuses a kind of runtime that it does not have, and lives", function()
    local status, problem = rig:post("/runs", plane_rig.descriptor(crypto.uuid4(), { runtime = { kind = "cobol" } }))
    assert.same({ 400, "VALIDATION_ERROR" }, { status, problem.errorCode })
    assert.truthy(json.encode(problem.message):find("runtime.kind", 1, true), json.encode(problem.message))
    assert.equal(200, (rig:get("/healthz")))
  end)

  it("P7: takes eighty runs at once", function()
    local answers, asking = {}, {}
    for i = 1, POSTS do
      asking[i] = task.spawn(function()
        answers[i] = rig:post("/runs", plane_rig.descriptor(crypto.uuid4()))
        return true
      end)
    end
    for i = 1, POSTS do asking[i]:join() end
    for i = 1, POSTS do assert.equal(202, answers[i]) end
    local stored = rig:rows("select count(*) as n from run_events_canonical where type = 'run.created'")[1].n
    assert.equal(POSTS, stored)
  end)

  it("P14: stores what arrives together in few transactions", function()
    local id, count = crypto.uuid4(), 300
    rig:open_session(id)
    rig:propose(id, "p1")
    rig:await(id, "running")
    local commits = 0
    local on_batch = rig.plane.writers.metrics.on_batch
    rig.plane.writers.metrics.on_batch = function(...)
      commits = commits + 1
      return on_batch(...)
    end
    local sending = {}
    for i = 1, count do
      sending[i] = task.spawn(function()
        rig:evaluate(id, i % 2 == 0 and "ann" or "bob", "p1", "reason " .. i)
        return true
      end)
    end
    for i = 1, count do assert(sending[i]:join()) end
    eventually(function() return rig.plane.owner:of_session(id).cursor == count + 2 end, 20000, "all envelopes")
    eventually(function()
      local run = rig.plane.owner:of_session(id)
      return run.committed_seq == run.seq
    end, 20000, "all stored")
    rig.plane.writers.metrics.on_batch = on_batch
    assert.is_true(commits <= count / 2, commits .. " transactions for " .. count .. " envelopes")
  end)

  it("P37: adds to the metadata of every ended run what was counted, and keeps the rest", function()
    for _, how in ipairs({ "completed", "cancelled" }) do
      local id = crypto.uuid4()
      local body = plane_rig.descriptor(id)
      body.session.metadata = { environment = "prod" }
      local _, accepted = rig:post("/runs", body)
      if how == "completed" then
        rig:play(id)
      else
        rig:open_session(id)
        assert(rig.runtime:call("boss", "CancelSession", { session_id = id }))
      end
      local metadata = rig:await(accepted.runId, how, 10000).metadata
      assert.is_number(metadata.durationMs)
      assert.is_true(metadata.eventCount > 3)
      assert.same({ "prod", id }, { metadata.environment, metadata.executionRequest.session.sessionId })
    end
  end)

  it("P42: stores what it received once, as it came", function()
    local id = crypto.uuid4()
    rig:open_session(id)
    rig:await(id, "running")
    local mark = "mark" .. crypto.uuid4():gsub("%-", "")
    rig:send("ann", id, "Proposal", runtime.payload("macp.modes.decision.v1.ProposalPayload",
      { proposal_id = "p1", option = "A", rationale = mark }))
    local row = eventually(function()
      return rig:rows([[select payload, frame, length(frame) as size from run_events_raw
        where run_id = $1 and ordinal = 2]], id)[1]
    end, 10000, "the raw row")
    assert.is_nil(row.payload)
    assert.equal(1, select(2, row.frame:gsub(mark, "")))
    assert.is_true(row.size < 1000, row.size .. " bytes")
  end)
end)

describe("a plane that knows other control planes' faults", function()
  local rig

  setup(function() rig = plane_rig.start({ env = { REPLAY_MAX_DELAY_MS = "100", REPLAY_BATCH_SIZE = "1" } }) end)
  teardown(function() rig:destroy() end)

  local function announce(session)
    local body = plane_rig.descriptor(crypto.uuid4())
    for name, value in pairs(session or {}) do body.session[name] = value end
    local status, accepted = rig:post("/runs", body)
    assert.equal(202, status)
    return accepted.runId, accepted.sessionId
  end

  -- Runs fn with a method of an object replaced; `replace` is given the real one.
  local function with_method(object, name, replace, fn)
    local own = rawget(object, name)
    object[name] = replace(object[name])
    local ok, err = pcall(fn)
    object[name] = own
    if not ok then error(err, 0) end
  end

  it("P1: asks again for a session that the runtime does not know yet, however often it was not there", function()
    local not_found, run_id, session_id = 0, nil, nil
    with_method(rig.plane.client, "get_session", function(real)
      return function(...)
        local metadata, err = real(...)
        if err and err.code == "NOT_FOUND" then not_found = not_found + 1 end
        return metadata, err
      end
    end, function()
      run_id, session_id = announce()
      eventually(function() return not_found >= 3 end, 10000, "three answers NOT_FOUND")
    end)
    assert.equal("starting", select(2, rig:get("/runs/" .. run_id)).status)
    rig:play(session_id)
    rig:await(run_id, "completed", 10000)
  end)

  it("P22: ends streams, observation and session of a run that nobody announced when the runtime tells of its end",
    function()
      local id = crypto.uuid4()
      rig:open_session(id)
      rig:await(id, "running", 10000)
      local stream = rig:stream("/runs/" .. id .. "/stream")
      stream:read_until(function(frames) return #frames >= 1 end)
      local run = rig.plane.owner:get("default", id)
      assert.is_true(rig.runtime:call("boss", "CancelSession", { session_id = id, reason = "enough" }).ack.ok)
      stream:read_all()
      assert.is_nil(stream.failure)
      assert.equal("cancelled", json.decode(stream.frames[#stream.frames].data).run.status)
      assert.equal("SESSION_STATE_CANCELLED",
        rig:rows("select session_state from runtime_sessions where run_id = $1", id)[1].session_state)
      eventually(function() return rig.plane.owner.runs[id] == nil end, 10000, "it leaves memory")
      assert.same({ "ended", nil }, { run.gone, rig.plane.hub.topics[id] })
    end)

  it("P26: finds runs by what their announcement named, and counts what it lists", function()
    local live = announce({ metadata = { environment = "prod-7", scenarioRef = "loans/limit@1" } })
    announce({ metadata = { environment = "prod-8", sourceRef = "loans/other@1" } })
    local body = plane_rig.descriptor(crypto.uuid4(), { mode = "sandbox" })
    body.session.metadata = { environment = "prod-7" }
    local sandbox = select(2, rig:post("/runs", body)).runId
    local function found(query)
      local status, page = rig:get("/runs?" .. query)
      assert.equal(200, status)
      local ids = {}
      for i, run in ipairs(page.data) do ids[i] = run.id end
      table.sort(ids)
      return { page.total, ids }
    end
    assert.same({ 1, { live } }, found("environment=prod-7"))
    assert.same({ 1, { live } }, found("scenarioRef=LIMIT"))
    assert.same({ 1, { live } }, found("search=prod-7"))
    local both = { live, sandbox }
    table.sort(both)
    assert.same({ 2, both }, found("environment=prod-7&includeSandbox=true"))
    local _, one = rig:get("/runs?environment=prod-7&includeSandbox=true&limit=1&offset=1")
    assert.same({ 2, 1 }, { one.total, #one.data })
  end)

  it("P44: reads no further once the reader of a replay has left", function()
    local id = crypto.uuid4()
    rig:play(id)
    rig:await(id, "completed", 10000)
    rig:rows("update run_events_canonical set ts = to_timestamp(0) + seq * interval '40 s' where run_id = $1", id)
    local pieces, is_over, count = 0, false, #rig:events(id)
    with_method(require("macp.store.events"), "piece", function(real)
      return function(db, tenant, run_id, ...)
        if run_id == id then pieces = pieces + 1 end
        return real(db, tenant, run_id, ...)
      end
    end, function()
      with_method(rig.plane.replay, "play", function(real)
        return function(...)
          local ok, err = real(...)
          is_over = true
          return ok, err
        end
      end, function()
        local stream = rig:stream("/runs/" .. id .. "/replay/stream?mode=timed&speed=1")
        stream:read_until(function() return #stream:seqs() >= 2 end)
        stream:close()
        eventually(function() return is_over end, 10000, "the end of the replay")
      end)
    end)
    assert.is_true(pieces < count, pieces .. " of " .. count)
  end)

  it("P46: answers readyz, the dashboard and the last probe's health while the runtime answers nobody", function()
    local hangs = task.cond()
    local called = 0
    with_method(rig.plane.client, "get_manifest", function()
      return function()
        called = called + 1
        hangs:wait()
        return nil, { code = "RUNTIME_TIMEOUT", message = "late" }
      end
    end, function()
      eventually(function() return called > 0 end, 10000, "the probe in the background")
      for _ = 1, 3 do
        local status, ready = rig:get("/readyz")
        assert.same({ 200, true }, { status, ready.ok })
        local overview_status, overview = rig:get("/dashboard/overview")
        assert.same({ 200, true }, { overview_status, overview.runtimeHealth.ok })
      end
      assert.equal(1, called) -- none of these asked
    end)
    hangs:broadcast()
  end)

  it("P47: is alive again after its connections were lost, however often", function()
    for _ = 1, 3 do
      rig:rows([[select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()]])
      rig.plane.health:probe()
      eventually(function()
        rig.plane.health:probe()
        local status, body = rig:get("/healthz")
        return status == 200 and body.ok and rig:get("/readyz") == 200
      end, 10000, "health")
    end
  end)
end)
