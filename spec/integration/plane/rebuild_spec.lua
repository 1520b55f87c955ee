-- Projections folded again: on demand, and in the background after the rules have changed.

local crypto = require("host.crypto")
local fetch = require("host.fetch")
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

  local COUNTED = {
    "select participant_id, messages, signals, confidence_sum, confidence_n, prompt_tokens, completion_tokens, "
      .. "latency_ms_sum, latency_n, last_at from run_participant_stats where run_id = $1 order by 1",
    "select minute, signals, decisions, positives, negatives from run_activity where run_id = $1 order by 1",
    "select total_tokens, estimated_cost_usd from runs where id = $1",
  }
  local SPOILED = {
    "update run_participant_stats set messages = 99, confidence_sum = 7 where run_id = $1",
    "insert into run_participant_stats (tenant, run_id, participant_id, seq, last_at) "
      .. "values ('default', $1, 'nobody', 99999, now())",
    "update run_activity set signals = 99, seq = 99999 where run_id = $1",
    "insert into run_activity (tenant, run_id, minute, seq, signals) values ('default', $1, 'epoch', 99999, 5)",
    "update runs set total_tokens = 12345, estimated_cost_usd = 3 where id = $1",
  }

  local function counted(id)
    local out = {}
    for i, text in ipairs(COUNTED) do out[i] = rig:rows(text, id) end
    return out
  end

  it("counts participants, minutes and totals again, of finished and of live runs", function()
    local done = finished_run()
    local live = crypto.uuid4()
    rig:open_session(live)
    rig:await(live, "running")
    rig:propose(live, "p1")
    rig:evaluate(live, "ann", "p1")
    local run = rig.plane.owner:get("default", live)
    eventually(function()
      return run.cursor == 3 and run.committed_seq == run.seq and run.checkpoint_seq == run.seq
        and #counted(live)[1] == 2
    end, 10000, "all is stored")
    for _, id in ipairs({ done, live }) do
      local before = counted(id)
      assert.is_true(#before[1] >= 2)
      for _, text in ipairs(SPOILED) do rig:rows(text, id) end
      assert.not_same(before, counted(id))
      assert(rig.plane.rebuild:run("default", id))
      eventually(function()
        return json.canonical(json.array(before)) == json.canonical(json.array(counted(id)))
      end, 5000, "counted again")
    end
    assert.equal(1, #counted(done)[2])
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
    local done = 0
    for _, plane in ipairs(planes) do
      local told = json.decode(assert(fetch.request({ url = plane.url .. "/admin/projections" })).body)
      assert.same({ projection.STORED_VERSION, false, 0 },
        { told.storedVersion, told.rebuild.running, told.rebuild.failed })
      done = done + told.rebuild.done
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
