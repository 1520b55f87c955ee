-- What is answered about a run that waits for its session: nothing but its row and its events is stored of it, and every
-- read says what these say, on the plane that has it and on another one.

local json = require("macp.core.json")

local fold = require("macp.plane.projection.fold")
local projection = require("macp.plane.projection.state")

local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")

local LONG = { SESSION_POLL_BASE_MS = "600000", SESSION_POLL_MAX_MS = "600000", SESSION_POLL_TIMEOUT_MS = "3600000" }
local ZEROS = { messageCount = 0, signalCount = 0, proposalCount = 0, toolCallCount = 0, decisionCount = 0,
  streamReconnectCount = 0, promptTokens = 0, completionTokens = 0, totalTokens = 0, estimatedCostUsd = 0 }

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

describe("of a run that waits for its session", function()
  local rig, owner, other
  local waiting = {} -- status -> { run_id, events }

  setup(function()
    rig = plane_rig.start({ env = LONG })
    owner = rig.plane
    local function announce() return select(2, rig:post("/runs", plane_rig.descriptor(nil))).runId end
    waiting.starting = { id = announce(), events = 2 }
    rig:await(waiting.starting.id, "starting")
    owner.launcher.hello_until = math.huge -- from here on a launch begins with its first question
    waiting.queued = { id = announce(), events = 1 }
    other = rig:start_plane()
  end)
  teardown(function()
    other:close()
    rig.plane = owner
    rig:destroy()
  end)

  -- Runs fn against the plane that does not have the runs, then against the one that has.
  local function on_both(fn)
    for _, plane in ipairs({ other, owner }) do
      rig.plane = plane
      for status, run in pairs(waiting) do fn(run.id, status, run.events) end
    end
  end

  local function get(path)
    local status, body = rig:get(path)
    assert.equal(200, status, path)
    return body
  end

  local function check_state(state, run_id, events)
    local fresh = projection.new(run_id)
    for _, event in ipairs(events) do fold.apply(fresh, fold.from_stored(event)) end
    assert.equal(projection.render(fresh, { sorted = true }), json.canonical(state))
  end

  it("no projection, no counters and no session is stored", function()
    for _, run in pairs(waiting) do
      for _, name in ipairs({ "run_projections", "run_metrics", "runtime_sessions", "run_participant_stats" }) do
        assert.equal(0, rig:rows("select count(*) as n from " .. name .. " where run_id = $1", run.id)[1].n, name)
      end
    end
  end)

  it("the projection is the fold of its events", function()
    on_both(function(run_id, status, count)
      local events = rig:events(run_id)
      assert.equal(count, #events)
      local state = get("/runs/" .. run_id .. "/state")
      assert.equal(status, state.run.status)
      check_state(state, run_id, events)
      check_state(get("/runs/" .. run_id .. "/replay/state"), run_id, events)
    end)
  end)

  it("the counters are those of its events, tokens included", function()
    on_both(function(run_id, _, count)
      local events = rig:events(run_id)
      local wanted = { runId = run_id, eventCount = count, firstEventAt = events[1].ts, lastEventAt = events[count].ts }
      for name, value in pairs(ZEROS) do wanted[name] = value end
      local told = get("/runs/" .. run_id .. "/metrics")
      wanted.durationMs = told.durationMs
      assert.same(wanted, told)
    end)
  end)

  it("the record, trace, messages, artifacts and events are there", function()
    on_both(function(run_id, status, count)
      local run = get("/runs/" .. run_id)
      assert.same({ status, count }, { run.status, run.lastEventSeq })
      assert.same({ traceId = run.traceId, spanCount = 0, linkedArtifacts = {}, runStatus = status },
        get("/runs/" .. run_id .. "/traces"))
      assert.same({}, get("/runs/" .. run_id .. "/messages"))
      assert.same({}, get("/runs/" .. run_id .. "/artifacts"))
      assert.equal(count, #get("/events?runId=" .. run_id).data)
    end)
  end)

  it("the export has no session, and what the other reads say", function()
    on_both(function(run_id, status, count)
      local bundle = get("/runs/" .. run_id .. "/export")
      assert.same({ json.null, status, count, get("/runs/" .. run_id .. "/metrics"), count },
        { bundle.session, bundle.projection.run.status, bundle.metrics.eventCount, bundle.metrics,
          #bundle.canonicalEvents })
    end)
  end)

  it("the comparison with another is answered", function()
    for _, plane in ipairs({ other, owner }) do
      rig.plane = plane
      local status, told = rig:post("/runs/compare",
        { leftRunId = waiting.queued.id, rightRunId = waiting.starting.id })
      assert.same({ 200, "queued", "starting" }, { status, told.left.status, told.right.status })
    end
  end)

  it("the lists and the dashboard have it by its status", function()
    on_both(function(run_id, status)
      local page = get("/runs?status=" .. status)
      assert.same({ 1, run_id, status }, { page.total, page.data[1].id, page.data[1].status })
      assert.equal(2, get("/runs").total)
    end)
    for _, plane in ipairs({ other, owner }) do
      rig.plane = plane
      local overview = eventually(function()
        local told = get("/dashboard/overview?window=24h")
        return #told.recentRuns == 2 and told
      end)
      local statuses = {}
      for _, run in ipairs(overview.recentRuns) do statuses[run.status] = run.id end
      assert.same({ queued = waiting.queued.id, starting = waiting.starting.id }, statuses)
      assert.same({}, get("/dashboard/agents/metrics"))
    end
  end)
end)
