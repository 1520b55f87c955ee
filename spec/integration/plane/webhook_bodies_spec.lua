-- What is in the body of a delivery: the change and its run, and `data` only of a failure unless the mode has a
-- webhook.lua that gives more.

local crypto = require("host.crypto")

local time = require("macp.core.time")

local plane_rig = require("spec.support.plane_rig")
local receiver = require("spec.support.receiver")

local SECRET = ("s"):rep(16)

describe("the body of a delivery", function()
  local rig, target, stop_database

  setup(function()
    stop_database = plane_rig.share_database()
    target = receiver.start()
    rig = plane_rig.start()
    assert(rig:post("/webhooks", { url = target.url, secret = SECRET }) == 201)
  end)
  teardown(function()
    rig:destroy()
    target:close()
    stop_database()
  end)
  before_each(function() target.requests = {} end)

  -- The value of the n-th body without its time, which is ISO 8601 in UTC.
  local function told(n)
    local value = target:await(n, 20000)[n].value
    assert.equal(value.timestamp, time.iso(time.parse_iso(value.timestamp)))
    value.timestamp = nil
    return value
  end

  it("tells event, run, status and time of what is no failure, of a standard mode too", function()
    local run_id, session_id = rig:announce()
    rig:open_session(session_id)
    rig:await(run_id, "running")
    assert.same({ event = "run.started", runId = run_id, status = "running" }, told(1))
    rig.runtime:call("boss", "SuspendSession", { session_id = session_id, reason = "lunch" })
    rig:await(run_id, "suspended")
    assert.same({ event = "run.suspended", runId = run_id, status = "suspended" }, told(2))
    rig.runtime:call("boss", "ResumeSession", { session_id = session_id, reason = "back" })
    rig:await(run_id, "running")
    assert.same({ event = "run.resumed", runId = run_id, status = "running" }, told(3))
    rig:propose(session_id, "p1")
    rig:vote(session_id, "ann", "p1")
    rig:vote(session_id, "bob", "p1")
    rig:commit(session_id)
    rig:await(run_id, "completed")
    assert.same({ event = "run.completed", runId = run_id, status = "completed" }, told(4))
  end)

  it("tells of a cancelled run no more", function()
    local run_id, session_id = rig:announce()
    rig:open_session(session_id)
    rig:await(run_id, "running")
    rig.runtime:call("boss", "CancelSession", { session_id = session_id, reason = "enough" })
    rig:await(run_id, "cancelled")
    assert.same({ event = "run.cancelled", runId = run_id, status = "cancelled" }, told(2))
  end)

  it("tells of a failure why, as the run does", function()
    local body = plane_rig.descriptor(crypto.uuid4())
    body.session.modeName = "ext.nowhere.v1"
    local _, accepted = rig:post("/runs", body)
    local run = rig:await(accepted.runId, "failed")
    assert.same({ event = "run.failed", runId = accepted.runId, status = "failed",
      data = { error = run.errorMessage } }, told(1))
  end)

  it("tells of a failure after the start no more than why, of a standard mode too", function()
    local run_id, session_id = rig:announce()
    rig:open_session(session_id, { ttl_ms = 1000 })
    assert.same({ event = "run.started", runId = run_id, status = "running" }, told(1))
    rig:await(run_id, "failed", 20000)
    assert.same({ event = "run.failed", runId = run_id, status = "failed",
      data = { error = "runtime session expired" } }, told(2))
  end)
end)
