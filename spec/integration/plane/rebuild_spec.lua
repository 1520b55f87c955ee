-- Projections folded again: on demand, and in the background after the rules have changed.

local crypto = require("host.crypto")
local task = require("host.task")

local json = require("macp.core.json")
local projection = require("macp.plane.projection.state")

local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

describe("a rebuilt projection", function()
  local rig

  setup(function() rig = plane_rig.start() end)
  teardown(function() rig:destroy() end)

  local function finished_run()
    local id = crypto.uuid4()
    rig:play(id)
    rig:await(id, "completed")
    local _, state = rig:get("/runs/" .. id .. "/state")
    return id, json.canonical(state)
  end

  local function metrics_of(id)
    return rig:rows("select event_count, message_count, proposal_count, decision_count from run_metrics "
      .. "where run_id = $1", id)[1]
  end

  local SPOIL = "update run_projections set document = replace(document, 'completed', 'spoiled') where run_id = $1"

  it("P13: of a finished run overwrites what is stored, counters included", function()
    local id, before = finished_run()
    local metrics = metrics_of(id)
    rig:rows(SPOIL, id)
    rig:rows("update run_metrics set event_count = 99999 where run_id = $1", id)
    local result = assert(rig.plane.rebuild:run("default", id))
    assert.equal(before, json.canonical(assert(json.decode(result.text))))
    local _, state = rig:get("/runs/" .. id .. "/state")
    assert.equal(before, json.canonical(state))
    assert.equal(state.timeline.latestSeq, result.seq)
    assert.same(metrics, metrics_of(id))
  end)

  it("of a live run is the same while events go on coming", function()
    local id = crypto.uuid4()
    rig:open_session(id)
    rig:await(id, "running")
    rig:propose(id, "p1")
    for i = 1, 30 do rig:evaluate(id, i % 2 == 0 and "ann" or "bob", "p1") end
    local run = rig.plane.owner:get("default", id)
    eventually(function() return run.cursor == 32 end, 5000, "all are received")
    run.state.participants[1].status = "spoiled"
    local sending = task.spawn(function()
      for i = 1, 30 do rig:evaluate(id, i % 2 == 0 and "ann" or "bob", "p1") end
      return true
    end)
    assert(rig.plane.rebuild:run("default", id))
    sending:join()
    eventually(function() return run.cursor == 62 and run.committed_seq == run.seq end, 5000, "all are stored")
    assert.is_nil(run.shadow)
    local live = run.state
    local _, state = rig:get("/runs/" .. id .. "/state")
    assert.equal(0, select(2, json.encode(state):gsub("spoiled", "")))
    local fresh = projection.new(id)
    assert(require("macp.plane.history").fold(rig.plane.db, "default", id, 0, run.seq, fresh))
    assert.equal(projection.render(fresh, { sorted = true }), projection.render(live, { sorted = true }))
  end)

  it("of an unknown run is RUN_NOT_FOUND", function()
    local id = crypto.uuid4()
    local result, err = rig.plane.rebuild:run("default", id)
    assert.is_nil(result)
    assert.same({ "RUN_NOT_FOUND", "run " .. id .. " not found" }, { err.code, err.message })
  end)

  it("of a run that another process observes is CONFLICT", function()
    local id = crypto.uuid4()
    rig:open_session(id)
    rig:await(id, "running")
    local other = rig:start_plane({ SESSION_DISCOVERY_ENABLED = "false" })
    local result, err = other.rebuild:run("default", id)
    other:close()
    assert.is_nil(result)
    assert.same({ "CONFLICT", "run " .. id .. " is observed by another process" }, { err.code, err.message })
  end)

  it("is made in the background, once, by one of several planes, for what other rules have stored", function()
    local ids, texts = {}, {}
    for i = 1, 3 do ids[i], texts[i] = finished_run() end
    for _, id in ipairs(ids) do
      rig:rows(SPOIL, id)
      rig:rows("update run_projections set schema_version = 3 where run_id = $1", id)
    end
    local planes = { rig:start_plane(), rig:start_plane() }
    eventually(function()
      return not planes[1].rebuild.progress.running and not planes[2].rebuild.progress.running
        and rig:rows("select count(*) as n from run_projections where schema_version = 3")[1].n == 0
    end, 20000, "all are rebuilt")
    local done = planes[1].rebuild:status().done + planes[2].rebuild:status().done
    for _, plane in ipairs(planes) do
      assert.equal(0, plane.rebuild:status().failed)
      plane:close()
    end
    assert.equal(3, done)
    for i, id in ipairs(ids) do
      assert.equal(projection.STORED_VERSION,
        rig:rows("select schema_version from run_projections where run_id = $1", id)[1].schema_version)
      local _, state = rig:get("/runs/" .. id .. "/state")
      assert.equal(texts[i], json.canonical(state))
    end
  end)
end)
