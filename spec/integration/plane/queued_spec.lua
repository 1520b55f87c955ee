-- A run before its session: queued until its launch begins, starting until its session is there. Row, answers, events,
-- streams and lists say the same, whoever is asked.

local json = require("macp.core.json")

local event_lists = require("spec.support.event_lists")
local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")

local LONG = { SESSION_POLL_BASE_MS = "600000", SESSION_POLL_MAX_MS = "600000", SESSION_POLL_TIMEOUT_MS = "3600000" }

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

describe("a run before its session", function()
  local rig, plane

  -- From here on a plane knows what the runtime supports: the launch of a run begins with its first question.
  local function let_wait(waiting_plane)
    local _, first = rig:post("/runs", plane_rig.descriptor(nil))
    rig:await(first.runId, "starting")
    waiting_plane.launcher.hello_until = math.huge
  end

  setup(function()
    rig = plane_rig.start({ env = LONG })
    plane = rig.plane
    let_wait(plane)
  end)
  teardown(function() rig:destroy() end)
  before_each(function() rig.plane = plane end)

  local function announce(changes)
    local status, accepted = rig:post("/runs", plane_rig.descriptor(nil, changes))
    assert.same({ 202, "queued" }, { status, accepted.status })
    return accepted.runId, accepted.sessionId
  end

  local function has(path, run_id)
    local _, page = rig:get(path)
    for _, run in ipairs(page.data) do
      if run.id == run_id then return true end
    end
    return false
  end

  local function types(run_id) return event_lists.types(rig:events(run_id)) end

  -- Its first question is due.
  local function ask_now(session_id) plane.launcher.polls:session_created(session_id) end

  it("is queued in its row, in lists and in its only event", function()
    local run_id = announce()
    local _, run = rig:get("/runs/" .. run_id)
    assert.same({ "queued", 1, json.null }, { run.status, run.lastEventSeq, run.startedAt })
    assert.is_true(has("/runs?status=queued", run_id))
    assert.is_false(has("/runs?status=starting", run_id))
    assert.same({ "run.created" }, types(run_id))
    assert.is_nil(plane.owner.runs[run_id]) -- all that without a projection in memory
  end)

  it("is starting in all of them once its launch began, with the moment of that", function()
    local run_id, session_id = announce()
    ask_now(session_id)
    local run = rig:await(run_id, "starting")
    assert.equal(2, run.lastEventSeq)
    assert.is_true(has("/runs?status=starting", run_id))
    assert.is_false(has("/runs?status=queued", run_id))
    assert.same({ "run.created", "run.started" }, types(run_id))
    local started = rig:events(run_id)[2]
    assert.same({ run.startedAt, "starting", run.startedAt },
      { started.ts, started.data.status, started.data.startedAt })
    assert.is_nil(plane.owner.runs[run_id])
    local _, state = rig:get("/runs/" .. run_id .. "/state")
    assert.same({ "starting", run.startedAt }, { state.run.status, state.run.startedAt })
  end)

  it("tells its stream when its launch begins, and never twice", function()
    local run_id, session_id = announce()
    local stream = rig:stream("/runs/" .. run_id .. "/stream?afterSeq=0")
    stream:read_until(function(frames) return #frames > 0 and #stream:seqs() == 1 end)
    ask_now(session_id)
    rig:open_session(session_id)
    rig:await(run_id, "running")
    stream:read_until(function() return #stream:seqs() >= 4 end)
    stream:close()
    local seqs = stream:seqs()
    for i = 2, #seqs do assert.is_true(seqs[i] > seqs[i - 1], i .. ": " .. seqs[i]) end
    local told = rig:events(run_id)
    assert.same({ "run.created", "run.started", "session.bound" }, { told[1].type, told[2].type, told[3].type })
    for i, seq in ipairs(seqs) do assert.equal(told[i].seq, seq) end
  end)

  it("tells streams of other planes when its launch begins", function()
    local other = rig:start_plane()
    local run_id, session_id = announce()
    rig.plane = other
    local stream = rig:stream("/runs/" .. run_id .. "/stream?afterSeq=0")
    stream:read_until(function() return #stream:seqs() == 1 end)
    assert.is_nil(other.owner.runs[run_id])
    ask_now(session_id)
    stream:read_until(function() return #stream:seqs() == 2 end)
    stream:close()
    assert.same({ 1, 2 }, stream:seqs())
    assert.equal("starting", select(2, rig:get("/runs/" .. run_id)).status)
    other:close()
  end)

  it("becomes the same when somebody looks at it while its start is being stored", function()
    local run_id, session_id = announce()
    local writer = plane.writers:of(run_id)
    local whole, unit = nil, writer.owner.pool:unit()
    -- Between the moment in which its batch is closed and the commit.
    writer.unit = setmetatable({}, { __index = function(_, name)
      return function(_, ...)
        if name == "commit_on" and whole == nil then whole = plane.owner:get("default", run_id) end
        return unit[name](unit, ...)
      end
    end })
    ask_now(session_id)
    eventually(function() return whole and whole.committed_seq == 2 end)
    assert.same({ "starting", 2, 2 }, { whole.status, whole.seq, whole.event_seq })
    rig:play(session_id)
    rig:await(run_id, "completed")
    local told = types(run_id)
    assert.same({ "run.created", "run.started", "session.bound", "run.completed" },
      { told[1], told[2], told[3], told[#told] })
  end)

  it("is cancelled while it is queued, and never starts", function()
    local session = plane_rig.descriptor(nil).session
    session.metadata = { cancellationDelegated = true }
    local run_id = announce({ session = session })
    local status, run = rig:post("/runs/" .. run_id .. "/cancel?force=true")
    assert.same({ 200, "cancelled" }, { status, run.status })
    assert.same({ "run.created", "run.cancelled" }, types(run_id))
  end)

  it("that was taken over is not started by the plane that lost it", function()
    local run_id, session_id = announce()
    rig:rows([[insert into plane_leases (tenant, owner, visible, expires_at)
      values ('default', 'macp-other', false, now() + interval '1 hour')]])
    rig:rows("update runs set lease_owner = 'macp-other' where id = $1", run_id)
    ask_now(session_id)
    eventually(function() return plane.owner.announced[run_id] == nil end)
    local _, run = rig:get("/runs/" .. run_id)
    assert.same({ "queued", { "run.created" } }, { run.status, types(run_id) })
    rig:rows("delete from plane_leases where owner = 'macp-other'")
    rig:await(run_id, "starting", 10000) -- taken back
    assert.same({ "run.created", "run.started" }, types(run_id))
  end)
end)

describe("a queued run whose process died", function()
  it("is started and observed by the one that takes it over", function()
    local rig = plane_rig.start({ env = LONG })
    local _, first = rig:post("/runs", plane_rig.descriptor(nil))
    rig:await(first.runId, "starting")
    rig.plane.launcher.hello_until = math.huge
    local _, accepted = rig:post("/runs", plane_rig.descriptor(nil))
    rig.plane:close()
    assert.equal("queued", rig:rows("select status from runs where id = $1", accepted.runId)[1].status)
    -- What is left of a killed process: its lease, unexpired, and no connection.
    rig:rows("update runs set lease_owner = 'macp-gone'")
    rig:rows([[insert into plane_leases (tenant, owner, visible, expires_at)
      values ('default', 'macp-gone', true, now() + interval '1 hour')]])
    rig.plane = rig:start_plane()
    rig:await(accepted.runId, "starting")
    rig:play(accepted.sessionId)
    rig:await(accepted.runId, "completed")
    local events = rig:events(accepted.runId)
    assert.same({ "run.created", "run.started", "session.bound" }, { events[1].type, events[2].type, events[3].type })
    rig:destroy()
  end)
end)
