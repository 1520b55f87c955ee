-- The plane's wall clock is set forward or back by hours while runs go on: nothing fails for it, no duration is negative,
-- and what fell silent is stored. The runtime and the database keep their time.

local crypto = require("host.crypto")
local sys = require("host.sys")
local task = require("host.task")

local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")

local HOUR = 3600000
local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

describe("a plane whose wall clock", function()
  local rig, true_now_ms

  setup(function()
    rig = plane_rig.start({ env = { STREAM_IDLE_TIMEOUT_MS = "1000" } })
    true_now_ms = sys.now_ms
  end)
  teardown(function() rig:destroy() end)
  after_each(function() sys.now_ms = true_now_ms end)

  local function jump(ms)
    sys.now_ms = function() return true_now_ms() + ms end
  end

  for words, by_ms in pairs({ ["is set forward"] = 5 * HOUR, ["is set back"] = -5 * HOUR }) do
    it(words .. " waits on for the session of a run, and observes it to its end", function()
      local id = crypto.uuid4()
      local _, accepted = rig:post("/runs", plane_rig.descriptor(id))
      rig:await(accepted.runId, "starting")
      jump(by_ms)
      task.sleep(300)
      assert.equal("starting", select(2, rig:get("/runs/" .. accepted.runId)).status)
      rig:play(id)
      local run = rig:await(accepted.runId, "completed", 10000)
      assert.is_true(run.metadata.durationMs >= 0)
      local _, metrics = rig:get("/runs/" .. accepted.runId .. "/metrics")
      assert.is_true((metrics.durationMs or 0) >= 0)
      local _, state = rig:get("/runs/" .. accepted.runId .. "/state")
      assert.equal("completed", state.run.status)
    end)

    it(words .. " stores what fell silent, and asks about it", function()
      local id = crypto.uuid4()
      rig:open_session(id)
      rig:await(id, "running")
      rig:propose(id, "p1")
      local run = rig.plane.owner:of_session(id)
      eventually(function() return run.cursor == 2 end, 10000, "the proposal")
      jump(by_ms)
      eventually(function() return run.checkpoint_seq == run.seq and run.committed_seq == run.seq end, 10000, "a state")
      eventually(function() return run.asked_ms end, 10000, "a question")
      assert(rig.runtime:call("boss", "CancelSession", { session_id = id }))
      rig:await(id, "cancelled", 10000)
    end)
  end
end)
