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
