-- Lists of runs over a database that holds many: what they find, and that no list reads a whole table.

local pg = require("host.pg")
local sys = require("host.sys")

local json = require("macp.core.json")
local time = require("macp.core.time")

local dashboard_store = require("macp.store.dashboard")
local run_list = require("macp.store.run_list")

local eventually = require("spec.support.eventually")
local many_runs = require("spec.support.many_runs")
local plane_rig = require("spec.support.plane_rig")

local RUNS = 24000
local FILTERED = { include_sandbox = false, include_archived = false, limit = 50, offset = 0, sort_by = "createdAt",
  sort_order = "desc" }

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

describe("a list of many runs", function()
  local rig, until_ms

  setup(function()
    rig = plane_rig.start({ env = { DASHBOARD_CACHE_MS = "0", RUN_RECOVERY_ENABLED = "false" } })
    until_ms = sys.now_ms()
    many_runs.fill(rig.db, { runs = RUNS, until_ms = until_ms })
  end)
  teardown(function() rig:destroy() end)

  local function list(query)
    local status, body = rig:get("/runs?" .. query)
    assert.equal(200, status, json.encode(body))
    return body
  end

  local function counted(condition)
    return rig:rows("select count(*) as n from runs where tenant = 'default' and " .. condition)[1].n
  end

  local LISTED = "mode <> 'sandbox' and archived_at is null"

  it("counts all of them", function()
    local body = list("limit=50")
    assert.equal(50, #body.data)
    assert.equal(counted(LISTED), body.total)
    assert.is_true(body.total > run_list.COUNT_MAX)
    assert.equal(RUNS, list("limit=1&includeSandbox=true&includeArchived=true").total)
  end)

  for _, case in ipairs({
    { "status=failed", "status = 'failed'" }, { "environment=staging", "environment = 'staging'" },
    { "tags=team-3", [[tags @> '["team-3"]']] }, { "tags=team-3,release-5", [[tags @> '["team-3","release-5"]']] },
    { "scenarioRef=SCENARIO-77@", "scenario_ref like '%scenario-77@%'" },
    { "scenarioRef=source-17", "source_ref = 'source-17'" }, { "search=scenario-777", "scenario_ref like '%-777@%'" },
    { "search=policy.team-250", "metadata #>> '{executionRequest,session,policyVersion}' = 'policy.team-250'" },
    { "search=%25", "false" }, { "modeName=macp.mode.none.v1", "false" },
    { "modeName=macp.mode.task.v1", "metadata->>'modeName' = 'macp.mode.task.v1'" },
    { "modeName=macp.mode.quorum.v1&status=completed",
      "metadata->>'modeName' = 'macp.mode.quorum.v1' and status = 'completed'" },
    { "status=suspended&environment=production",
      "status = 'suspended' and environment = 'production'" },
  }) do
    it("finds what " .. case[1] .. " asks for", function()
      local body = list("limit=200&" .. case[1])
      local total = counted(LISTED .. " and (" .. case[2] .. ")")
      assert.equal(total, body.total)
      assert.equal(math.min(200, total), #body.data)
      for i = 2, #body.data do assert.is_true(body.data[i - 1].createdAt >= body.data[i].createdAt) end
    end)
  end

  it("finds a run by a piece of its id", function()
    local run = list("limit=1&offset=4321").data[1]
    local body = list("search=" .. run.id:sub(3, 21):upper())
    assert.same({ 1, run.id }, { body.total, body.data[1].id })
  end)

  it("keeps texts of any length, open or ended, and finds them", function()
    local function text(name) -- nothing that an index could make short
      return rig:rows("select string_agg(md5($1 || i), '') as t from generate_series(1, 200) i", name)[1].t
    end
    local environment, scenario, source = text("environment"), text("scenario"), text("source")
    rig:rows([[insert into runs (tenant, id, status, mode, runtime_kind, environment, scenario_ref, source_ref)
      select 'default', gen_random_uuid(), status, 'sandbox', 'rust', $1, $2, $3
      from unnest(array['running', 'completed']) status]], environment, scenario, source)
    rig:rows("update runs set ended_at = now() where status = 'completed' and environment = $1", environment)
    for _, query in ipairs({ "environment=" .. environment, "scenarioRef=" .. scenario:sub(300, 340),
      "scenarioRef=" .. source, "search=" .. scenario:sub(5000, 5040), "search=" .. source:sub(6000, 6040) }) do
      local body = list("limit=5&includeSandbox=true&" .. query)
      assert.same({ 2, 2 }, { body.total, #body.data }, query:sub(1, 20))
    end
    assert.equal(24, list("limit=5&includeSandbox=true&scenarioRef=scenario-77@").total)
    rig:rows("delete from runs where environment = $1", environment)
  end)

  it("pages through them without losing or repeating one", function()
    local seen, count = {}, 0
    for offset = 0, 1000, 200 do
      for _, run in ipairs(list("limit=200&sortBy=updatedAt&sortOrder=asc&offset=" .. offset).data) do
        assert.is_nil(seen[run.id])
        seen[run.id], count = true, count + 1
      end
    end
    assert.equal(1200, count)
  end)

  it("estimates what takes long to count until it is counted, unless it shall wait", function()
    local expected = counted(LISTED)
    assert.is_true(expected > run_list.FOUND_MAX)
    local body = list("limit=50&search=scenario-")
    assert.same({ 50, true }, { #body.data, body.totalIsEstimate })
    assert.is_true(body.total > run_list.FOUND_MAX)
    eventually(function()
      body = list("limit=50&search=scenario-")
      return body.totalIsEstimate == nil
    end, 20000, "a total")
    assert.equal(expected, body.total)
    body = list("limit=1&search=1.0.0&exactTotal=true")
    assert.same({ expected, nil }, { body.total, body.totalIsEstimate })
    local status, problem = rig:get("/runs?exactTotal=maybe")
    assert.same({ 400, "VALIDATION_ERROR" }, { status, problem.errorCode })
    assert.truthy(problem.message[1]:find("exactTotal", 1, true))
  end)

  it("gives every page of what many runs match, however far apart they are", function()
    local function ids(query, offset, order)
      local out = {}
      for i, run in ipairs(list("limit=100&offset=" .. offset .. "&sortOrder=" .. order .. "&" .. query).data) do
        out[i] = run.id
      end
      return out
    end
    for query, condition in pairs({
      ["search=scenario-"] = "true", ["tags=release-1&includeSandbox=true&includeArchived=true"] = false,
      ["scenarioRef=pack-1"] = "scenario_ref like '%pack-1%'", ["search=production"] = "environment = 'production'",
    }) do
      local where = condition and (LISTED .. " and " .. condition) or [[tags @> '["release-1"]']]
      for _, order in ipairs({ "asc", "desc" }) do
        for _, offset in ipairs({ 0, 700, 1000, 3333, 7950, 12000 }) do
          local expected = {}
          for i, row in ipairs(rig:rows("select id from runs where tenant = 'default' and " .. where
            .. " order by created_at " .. order .. ", id " .. order .. " limit 100 offset $1", offset)) do
            expected[i] = row.id
          end
          assert.same(expected, ids(query, offset, order), query .. " " .. order .. " " .. offset)
        end
      end
    end
    local expected = rig:rows("select id from runs where tenant = 'default' and " .. LISTED
      .. " order by created_at desc, id desc limit 1 offset 15000")[1].id
    assert.equal(expected, list("limit=1&offset=15000").data[1].id)
  end)

  it("knows of a new run in a total of more than 10000 soon, and at once below", function()
    local before = list("limit=1").total
    local function add(environment)
      rig:rows([[insert into runs (tenant, id, status, mode, runtime_kind, environment)
        values ('default', gen_random_uuid(), 'completed', 'live', 'rust', $1)]], environment)
    end
    add("moon")
    assert.equal(1, list("environment=moon").total)
    add("moon")
    assert.equal(2, list("environment=moon").total)
    eventually(function() return list("limit=1").total == before + 2 end, 15000, "a new total")
    rig:rows("delete from runs where environment = 'moon'")
  end)

  -- Every line of the plans, with the nodes that read a whole table of runs or events.
  local function whole_table_reads(lines)
    local found = {}
    for _, line in ipairs(lines) do
      if line:find("Seq Scan on run", 1, true) then found[#found + 1] = line end
    end
    return found
  end

  local function with(changes)
    local query = {}
    for key, value in pairs(FILTERED) do query[key] = value end
    for key, value in pairs(changes) do query[key] = value end
    return query
  end

  describe("W28: reads no table as a whole", function()
    for name, changes in pairs({
      ["without a filter"] = {}, ["from the oldest"] = { sort_order = "asc" },
      ["by updatedAt"] = { sort_by = "updatedAt" }, ["by updatedAt, ascending"] = { sort_by = "updatedAt",
        sort_order = "asc" }, ["with sandbox and archived ones"] = { include_sandbox = true, include_archived = true },
      ["of a common status"] = { status = "completed" }, ["of a rare status"] = { status = "suspended" },
      ["of an environment"] = { environment = "staging" }, ["of a rare environment"] = { environment = "moon" },
      ["of a common scenario"] = { scenario_ref = "pack-" },
      ["of a rare scenario"] = { scenario_ref = "scenario-777@" },
      ["of a search that finds much"] = { search = "scenario" },
      ["of a search that finds little"] = { search = "policy.team-250" },
      ["of a search that finds nothing"] = { search = "no such text" }, ["of a tag"] = { tags = '["team-3"]' },
      ["of a rare tag"] = { tags = '["nobody"]' },
    }) do
      it(name, function()
        local query = with(changes)
        local lines = assert(run_list.explain(rig.db, "default", query))
        assert.is_true(#lines > 4)
        assert.same({}, whole_table_reads(lines), table.concat(lines, "\n"))
      end)
    end

    it("for a time", function()
      local lines = assert(run_list.explain(rig.db, "default", with({ created_after_ms = until_ms - 3600000,
        created_before_ms = until_ms })))
      assert.same({}, whole_table_reads(lines), table.concat(lines, "\n"))
      assert.truthy(table.concat(lines, "\n"):find("runs_ended_created_at_idx", 1, true))
    end)

    it("for the events of a run", function()
      local run = list("limit=1").data[1]
      local plan = rig:rows([[explain select seq, document from run_events_canonical
        where tenant = 'default' and run_id = $1 and seq > 0 order by seq limit 200]], run.id)
      assert.truthy(plan[1]["QUERY PLAN"]:find("Limit", 1, true))
      assert.truthy(plan[2]["QUERY PLAN"]:find("Index Scan using run_events_canonical_pkey", 1, true))
      local status, events = rig:get("/runs/" .. run.id .. "/events")
      assert.same({ 200, 10 }, { status, #events })
    end)

    it("for the dashboard of a day, which reads no events at all", function()
      local day = { from_ms = until_ms - 86400000, bucket = "hour" }
      local lines = assert(dashboard_store.explain(rig.db, "default", day))
      local text = table.concat(lines, "\n")
      assert.is_nil(text:find("Seq Scan on run", 1, true), text)
      assert.is_nil(text:find("events", 1, true), text)
    end)
  end)

  it("shows the last day of them in the dashboard", function()
    local from, to = time.iso(until_ms - 86400000), time.iso(until_ms + 1)
    local status, body = rig:get("/dashboard/overview?from=" .. from .. "&to=" .. to)
    assert.equal(200, status)
    local expected = rig:rows([[select count(*) as n, sum(m.total_tokens)::bigint as tokens
      from runs r join run_metrics m on m.tenant = r.tenant and m.run_id = r.id
      where r.created_at >= $1 and r.created_at < $2]], pg.ts(until_ms - 86400000), pg.ts(until_ms + 1))[1]
    assert.same({ expected.n, expected.tokens }, { body.kpis.totalRuns, body.kpis.totalTokens })
    assert.equal(800, math.floor(body.kpis.totalRuns / 10 + 0.5) * 10)
    assert.equal(10, #body.recentRuns)
  end)
end)
