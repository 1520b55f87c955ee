-- A suspended session: its time stands still for the mode, live and when the history is read again.

local crypto = require("host.crypto")
local json = require("macp.core.json")
local task = require("host.task")

local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")

local PAUSE_MS = 400

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

describe("a suspended session", function()
  local rig

  setup(function() rig = plane_rig.start() end)
  teardown(function() rig:destroy() end)

  it("does not age, and is the same after a restart", function()
    local id = crypto.uuid4()
    rig:open_session(id)
    rig:await(id, "running")
    rig:propose(id, "p1")
    assert(rig.runtime:call("boss", "SuspendSession", { session_id = id, reason = "lunch" }))
    rig:await(id, "suspended")
    task.sleep(PAUSE_MS)
    assert(rig.runtime:call("boss", "ResumeSession", { session_id = id, reason = "back" }))
    rig:await(id, "running")
    rig:vote(id, "ann", "p1")
    local run = rig.plane.owner:get("default", id)
    eventually(function() return run.cursor == 3 and run.committed_seq == run.seq end, 3000, "the vote is stored")
    local clock = run.state.clock
    assert.is_true(clock.suspended_ms >= PAUSE_MS - 50, clock.suspended_ms)
    assert.equal(clock.last_ms - clock.started_ms - clock.suspended_ms, clock.last_t)
    local live_clock, live_state = json.canonical(clock), run.rev:encode(run.rev_key)
    local _, before = rig:get("/runs/" .. id .. "/state")
    local _, replayed = rig:get("/runs/" .. id .. "/replay/state")
    assert.same(before.mode, replayed.mode)
    rig.plane:close()
    -- Without what was stored of the state, everything comes from the history.
    assert(rig.db:query("delete from run_projections where run_id = $1", { id }))
    rig.plane = rig:start_plane()
    local again = eventually(function()
      local found = rig.plane.owner:get("default", id)
      return found and found.rev_started and found
    end, 5000, "the run is loaded")
    assert.equal(live_state, again.rev:encode(again.rev_key))
    assert.equal(live_clock, json.canonical(again.state.clock))
  end)

  it("is shown as such by the run's counters and the session's row, and as open once it goes on", function()
    local id = crypto.uuid4()
    rig:open_session(id)
    rig:await(id, "running")
    local function shown(state)
      eventually(function()
        local _, metrics = rig:get("/runs/" .. id .. "/metrics")
        local _, bundle = rig:get("/runs/" .. id .. "/export")
        return metrics.sessionState == state and bundle.session.sessionState == state,
          tostring(metrics.sessionState) .. " " .. tostring(bundle.session.sessionState)
      end, 5000, state)
    end
    shown("SESSION_STATE_OPEN")
    assert(rig.runtime:call("boss", "SuspendSession", { session_id = id, reason = "lunch" }))
    shown("SESSION_STATE_SUSPENDED")
    assert(rig.runtime:call("boss", "ResumeSession", { session_id = id, reason = "back" }))
    shown("SESSION_STATE_OPEN")
    assert(rig.runtime:call("boss", "SuspendSession", { session_id = id, reason = "lunch" }))
    shown("SESSION_STATE_SUSPENDED")
    assert(rig.runtime:call("boss", "CancelSession", { session_id = id, reason = "enough" }))
    shown("SESSION_STATE_CANCELLED")
  end)
end)
