-- The dashboard over what real runs left in PostgreSQL, and over rows whose times and tenants are chosen.

local crypto = require("host.crypto")

local json = require("macp.core.json")
local time = require("macp.core.time")

local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")
local runtime = require("spec.support.runtime_client")

local CHARTS = { "cost", "decisionOutcome", "errorClasses", "latency", "latencyP50", "latencyP95", "latencyP99",
  "perScenario", "queueDepth", "runVolume", "signalVolume", "successRate", "throughput" }

local INSERT = [[
insert into runs (tenant, id, status, mode, runtime_kind, source_ref, environment, scenario_ref, error_code, created_at,
  started_at, ended_at, archived_at, metadata, total_tokens, estimated_cost_usd)
values ($1, $2, $3, $4, 'rust', $5, $6, $7, $8, $9::timestamptz, $9::timestamptz, $10::timestamptz, $11::timestamptz,
  $12::jsonb, $13, $14)]]

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

local function chart(labels, data) return { labels = labels, data = data } end

describe("the dashboard", function()
  local rig

  local function overview(query)
    local status, body = rig:get("/dashboard/overview" .. (query or ""))
    assert.equal(200, status, json.encode(body))
    return body
  end

  local function add_run(row)
    local id = row.id or crypto.uuid4()
    rig:rows(INSERT, row.tenant or "default", id, row.status or "completed", row.mode or "live", row.source_ref,
      row.environment, row.scenario_ref, row.error_code, row.created, row.ended, row.archived,
      json.encode({ scenarioRef = row.scenario_ref, executionRequest = { secret = "kept away" } }),
      row.tokens or 0, row.cost or 0)
    return id
  end

  describe("of an empty database", function()
    setup(function() rig = plane_rig.start({ env = { DASHBOARD_CACHE_MS = "0" } }) end)
    teardown(function() rig:destroy() end)

    it("has every KPI and every chart", function()
      local body = overview()
      assert.same({
        totalRuns = 0, activeRuns = 0, completedRuns = 0, failedRuns = 0, cancelledRuns = 0, suspendedRuns = 0,
        totalSignals = 0, totalTokens = 0, totalCostUsd = 0, avgDurationMs = json.null,
      }, body.kpis)
      local names = {}
      for name, one in pairs(body.charts) do
        names[#names + 1] = name
        assert.equal('{"data":[],"labels":[]}', json.canonical(one))
      end
      table.sort(names)
      assert.same(CHARTS, names)
      assert.equal("[]", json.encode(body.recentRuns))
    end)

    it("P46: tells of the runtime what the last probe saw", function()
      local health = eventually(function()
        local seen = overview().runtimeHealth
        return seen.ok and seen
      end, 5000, "a probe")
      assert.equal("rust", health.runtimeKind)
      assert.equal("connected to " .. rig.runtime.role.address, health.detail)
      assert.is_nil(health.manifest)
    end)

    it("knows no agents", function()
      local status, body = rig:get("/dashboard/agents/metrics")
      assert.equal(200, status)
      assert.equal("[]", json.encode(body))
    end)
  end)

  describe("over chosen rows", function()
    setup(function()
      rig = plane_rig.start({ env = { DASHBOARD_CACHE_MS = "0" } })
      -- Charts count in UTC wherever the database believes to be.
      local name = rig:rows("select current_database() as name")[1].name
      rig:rows('alter database "' .. name .. [[" set timezone to 'Asia/Kathmandu']])
      rig.plane:close()
      rig.plane = rig:start_plane()
      add_run({ created = "2026-01-01T10:05:00Z", ended = "2026-01-01T10:05:10Z", tokens = 100, cost = 0.125,
        source_ref = "loans", environment = "prod", scenario_ref = "loans/limit@1.0.0" })
      add_run({ created = "2026-01-01T10:55:00Z", ended = "2026-01-01T11:00:30Z", tokens = 50, cost = 0.25,
        source_ref = "loans", environment = "prod", scenario_ref = "loans/50%_off" })
      add_run({ created = "2026-01-01T10:59:59.999Z", ended = "2026-01-01T11:00:00.999Z", status = "failed",
        error_code = "SESSION_EXPIRED", environment = "test", mode = "sandbox" })
      add_run({ created = "2026-01-01T11:00:00Z", ended = "2026-01-01T11:01:00Z", status = "failed" })
      add_run({ created = "2026-01-01T11:10:00Z", ended = "2026-01-01T11:11:00Z", status = "cancelled",
        archived = "2026-01-02T00:00:00Z" })
      add_run({ created = "2026-01-01T12:00:00Z", status = "queued" })
      add_run({ created = "2026-01-01T12:01:00Z", status = "running" })
      local last = add_run({ created = "2026-01-01T12:02:00Z", status = "suspended", environment = "prod" })
      for _, minute in ipairs({ { "2026-01-01T10:06:00Z", 2, 1, 1, 0 }, { "2026-01-01T10:59:00Z", 3, 0, 0, 0 },
        { "2026-01-01T12:02:00Z", 0, 3, 1, 2 }, { "2026-01-02T12:02:00Z", 9, 0, 0, 0 } }) do
        rig:rows([[insert into run_activity (tenant, run_id, minute, seq, signals, decisions, positives, negatives)
          values ('default', $1, $2::timestamptz, 9, $3, $4, $5, $6)]], last, unpack(minute))
      end
      local foreign = add_run({ tenant = "other", created = "2026-01-01T10:05:00Z", ended = "2026-01-01T10:05:10Z",
        tokens = 1000, cost = 9, source_ref = "foreign" })
      rig:rows([[insert into run_activity (tenant, run_id, minute, seq, signals)
        values ('other', $1, '2026-01-01T10:06:00Z', 9, 100)]], foreign)
      rig:rows([[insert into run_participant_stats (tenant, run_id, participant_id, seq, messages, last_at)
        values ('other', $1, 'stranger', 9, 100, now())]], foreign)
    end)
    teardown(function() rig:destroy() end)

    local DAY = "?from=2026-01-01T10:00:00Z&to=2026-01-02T10:00:00Z"

    it("counts the runs of the window, of this tenant, with sandbox and archived ones", function()
      assert.same({
        totalRuns = 8, activeRuns = 3, completedRuns = 2, failedRuns = 2, cancelledRuns = 1, suspendedRuns = 1,
        totalSignals = 5, totalTokens = 150, totalCostUsd = 0.38, avgDurationMs = 170000,
      }, overview(DAY).kpis)
    end)

    it("charts them by the hour in UTC, in order, and only where something was", function()
      local ten, eleven, twelve = "2026-01-01T10:00:00.000Z", "2026-01-01T11:00:00.000Z", "2026-01-01T12:00:00.000Z"
      assert.same({
        runVolume = chart({ ten, eleven, twelve }, { 3, 2, 3 }),
        latency = chart({ ten, eleven }, { 10000, 330000 }),
        latencyP50 = chart({ ten, eleven }, { 10000, 330000 }),
        latencyP95 = chart({ ten, eleven }, { 10000, 330000 }),
        latencyP99 = chart({ ten, eleven }, { 10000, 330000 }),
        throughput = chart({ ten, eleven }, { 1, 1 }),
        queueDepth = chart({ twelve }, { 1 }),
        signalVolume = chart({ ten }, { 5 }),
        errorClasses = chart({ "SESSION_EXPIRED", "UNKNOWN" }, { 1, 1 }),
        cost = chart({ ten, eleven, twelve }, { 0.375, 0, 0 }),
        successRate = chart({ ten, eleven, twelve }, { 200 / 3, 0, 0 }),
        decisionOutcome = chart({ ten, twelve }, { 1, -1 }),
        perScenario = chart({ "unknown", "loans" }, { 6, 2 }),
      }, overview(DAY).charts)
    end)

    it("interpolates percentiles of one bucket", function()
      local charts = overview("?from=2026-01-01T00:00:00Z&to=2026-01-05T00:00:00Z").charts
      local day = "2026-01-01T00:00:00.000Z"
      assert.same(chart({ day }, { 170000 }), charts.latency)
      assert.same(chart({ day }, { 170000 }), charts.latencyP50)
      assert.same(chart({ day }, { 314000 }), charts.latencyP95)
      assert.same(chart({ day }, { 326800 }), charts.latencyP99)
      assert.same(chart({ day, "2026-01-02T00:00:00.000Z" }, { 5, 9 }), charts.signalVolume)
    end)

    it("takes from as included and to as excluded", function()
      local kpis = overview("?from=2026-01-01T10:05:00Z&to=2026-01-01T10:55:00Z").kpis
      assert.equal(1, kpis.totalRuns)
      assert.equal(2, kpis.totalSignals)
      assert.equal(0, overview("?from=2026-01-01T10:05:00.001Z&to=2026-01-01T10:55:00Z").kpis.totalRuns)
    end)

    it("reads times of any zone, and plain dates", function()
      assert.equal(8, overview("?from=2026-01-01T12:00:00%2B02:00&to=2026-01-02T12:00:00%2B02:00").kpis.totalRuns)
      assert.equal(8, overview("?from=2026-01-01&to=2026-01-02").kpis.totalRuns)
    end)

    it("filters runs, signals and throughput by environment", function()
      local body = overview(DAY .. "&environment=prod")
      assert.same({ 3, 2, 5 }, { body.kpis.totalRuns, body.kpis.completedRuns, body.kpis.totalSignals })
      body = overview(DAY .. "&environment=test")
      assert.same({ 1, 0, 0 }, { body.kpis.totalRuns, body.kpis.completedRuns, body.kpis.totalSignals })
      assert.same(chart({}, {}), body.charts.throughput)
    end)

    it("P26: filters by scenario, with wildcards taken literally, or by the exact source", function()
      assert.equal(2, overview(DAY .. "&scenarioRef=LOANS/").kpis.totalRuns)
      assert.equal(1, overview(DAY .. "&scenarioRef=50%25_").kpis.totalRuns)
      assert.equal(2, overview(DAY .. "&scenarioRef=loans").kpis.totalRuns)
      assert.equal(0, overview(DAY .. "&scenarioRef=%25").kpis.totalRuns - 1)
      assert.equal(0, overview(DAY .. "&scenarioRef=x_y").kpis.totalRuns)
    end)

    it("shows the ten newest runs that are neither sandbox nor archived, whatever the window", function()
      local recent = overview("?window=1h").recentRuns
      assert.equal(6, #recent)
      for i = 2, #recent do assert.is_true(recent[i - 1].createdAt > recent[i].createdAt) end
      local first = recent[#recent]
      assert.same({ "completed", "rust", "loans", "2026-01-01T10:05:00.000Z", "2026-01-01T10:05:10.000Z" },
        { first.status, first.runtimeKind, first.sourceRef, first.createdAt, first.endedAt })
      assert.same({ scenarioRef = "loans/limit@1.0.0" }, first.metadata)
      assert.is_nil(recent[1].endedAt)
    end)

    it("shows no participant of another tenant", function()
      local _, agents = rig:get("/dashboard/agents/metrics")
      assert.equal("[]", json.encode(agents))
    end)

    it("P33: says what is wrong with a question", function()
      local function refused(query, message)
        for _, path in ipairs({ "/dashboard/overview", "/dashboard/agents/metrics" }) do
          local status, body = rig:get(path .. query)
          assert.same({ 400, { statusCode = 400, errorCode = "VALIDATION_ERROR", message = { message },
            error = "Bad Request" } }, { status, body })
        end
      end
      refused("?window=2h",
        "window must be one of the following values: 15m, 1h, 6h, 24h, 7d, 30d (did you mean `1h`?)")
      refused("?range=year", "range must be one of the following values: 24h, 7d, 30d")
      refused("?from=yesterday", "from must be a valid ISO 8601 date string")
      refused("?to=2026-13-01", "to must be a valid ISO 8601 date string")
      refused("?from=2026-01-02&to=2026-01-02", "from must be before to")
      local status, body = rig:get("/dashboard/agents/metrics?limit=1001")
      assert.same({ 400, { "limit must not be greater than 1000" } }, { status, body.message })
    end)
  end)

  describe("of real runs", function()
    setup(function() rig = plane_rig.start({ env = { DASHBOARD_CACHE_MS = "0" } }) end)
    teardown(function() rig:destroy() end)

    local function agents(query)
      local status, list = rig:get("/dashboard/agents/metrics" .. (query or ""))
      assert.equal(200, status)
      local by_name = {}
      for _, agent in ipairs(list) do by_name[agent.participantId] = agent end
      return by_name, list
    end

    local function signal(session_id, token, confidence)
      local ack = rig.runtime:send(token, runtime.envelope({
        message_type = "Signal", message_id = crypto.uuid4(), session_id = "", mode = "",
        payload = runtime.payload("macp.v1.SignalPayload", { signal_type = "risk", confidence = confidence,
          correlation_session_id = session_id }),
      }))
      assert(ack.ok, ack.error and ack.error.message)
    end

    it("P27: counts what its participants sent, also over a restart, and nothing twice", function()
      local session_id = crypto.uuid4()
      rig:open_session(session_id)
      rig:propose(session_id, "p1")
      rig:evaluate(session_id, "ann", "p1")
      rig:await(session_id, "running")
      signal(session_id, "bob", 0.25)
      eventually(function() return agents().bob end, 5000, "bob's signal")
      assert.same({ 1, 1 }, { agents().bob.signals, overview().kpis.totalSignals })
      rig.plane:close()
      rig.plane = rig:start_plane()
      rig:vote(session_id, "ann", "p1")
      rig:vote(session_id, "bob", "p1")
      -- Signals are told to who watches only; by the time that the votes are counted, the plane does.
      eventually(function() return agents().ann.messages == 3 and rig.plane.signals.stream end, 5000, "the votes")
      signal(session_id, "bob", 0.75)
      eventually(function() return agents().bob.signals == 2 end, 5000, "the second signal")
      rig:commit(session_id)
      rig:await(session_id, "completed")
      local found, list = agents()
      assert.same({ participantId = "ann", runs = 1, messages = 3, signals = 0, averageConfidence = 0.75 }, found.ann)
      assert.same({ participantId = "bob", runs = 1, messages = 3, signals = 2, averageConfidence = 0.5 }, found.bob)
      assert.same({ 1, 2 }, { found.boss.runs, found.boss.messages })
      assert.equal(3, #list)
      local body = overview("?window=15m")
      assert.same({ 1, 1, 2 }, { body.kpis.totalRuns, body.kpis.completedRuns, body.kpis.totalSignals })
      assert.equal(session_id, body.recentRuns[1].id)
      local outcome, volume = 0, 0
      for _, value in ipairs(body.charts.decisionOutcome.data) do outcome = outcome + value end
      for _, value in ipairs(body.charts.signalVolume.data) do volume = volume + value end
      assert.same({ 1, 2 }, { outcome, volume })
      -- However many events there are: none is read.
      rig:rows("alter table run_events_canonical rename to out_of_reach")
      local counted = agents()
      rig:rows("alter table out_of_reach rename to run_events_canonical")
      assert.same(found, counted)
    end)

    it("lists those in most runs first, of the runs in the window, as many as asked for", function()
      local session_id = crypto.uuid4()
      rig:open_session(session_id)
      rig:propose(session_id, "p1")
      rig:await(session_id, "running")
      eventually(function()
        local boss = agents().boss
        return boss and boss.runs == 2
      end, 5000, "the second run")
      local _, list = agents("?limit=2")
      assert.same({ "ann", "boss" }, { list[1].participantId, list[2].participantId })
      assert.is_nil(list[3])
      rig:rows("update runs set created_at = created_at - interval '2 hours' where id = $1", session_id)
      assert.equal(1, agents("?window=1h").boss.runs)
      assert.equal(2, agents("?window=24h").boss.runs)
      assert.equal(2, agents().boss.runs)
      local before = time.iso(require("host.sys").now_ms() - 3600000)
      assert.equal(1, agents("?to=" .. before).boss.runs)
      assert.same({}, (agents("?environment=nowhere")))
    end)

    it("forgets a run that is deleted", function()
      rig:rows("delete from runs where status = 'completed'")
      assert.same({ 1, 0 }, { agents().boss.runs, overview().kpis.totalSignals })
      assert.is_nil(agents().bob)
    end)
  end)

  it("P28: gives the same answer for a while and does not count again", function()
    rig = plane_rig.start({ env = { DASHBOARD_CACHE_MS = "60000" } })
    assert.equal(0, overview().kpis.totalRuns)
    rig:rows([[insert into runs (tenant, id, status, mode, runtime_kind)
      values ('default', gen_random_uuid(), 'completed', 'live', 'rust')]])
    assert.equal(0, overview().kpis.totalRuns)
    assert.equal(1, overview("?window=1h").kpis.totalRuns)
    rig:destroy()
  end)
end)
