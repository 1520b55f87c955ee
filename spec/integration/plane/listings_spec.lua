-- Lists across runs: events, audit entries; and one operation on many runs.

local crypto = require("host.crypto")
local fetch = require("host.fetch")

local json = require("macp.core.json")

local event_search = require("macp.store.event_search")

local plane_rig = require("spec.support.plane_rig")

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

-- n stored events of a run that nobody observed, the i-th at second i of a day.
local function insert_events(rig, run_id, day, n, event_type)
  rig:rows([[insert into run_events_canonical (tenant, run_id, seq, ts, type, document)
    select 'default', $1::uuid, i, $2::timestamptz + i * interval '1 second', $4, '{"id":"' || gen_random_uuid()
      || '","runId":"' || ($1::uuid)::text || '","seq":' || i || ',"type":"' || $4::text || '","data":{}}'
    from generate_series(1, $3::int) i]], run_id, day, n, event_type)
end

local function insert_run(rig, source_ref)
  local id = crypto.uuid4()
  rig:rows([[insert into runs (tenant, id, status, mode, runtime_kind, source_ref, scenario_ref, ended_at)
    values ('default', $1, 'completed', 'live', 'rust', $2::text, $2::text, now())]], id, source_ref)
  return id
end

local function keys(page)
  local out = {}
  for i, event in ipairs(page.data) do out[i] = event.runId:sub(1, 4) .. event.seq end
  return out
end

describe("events of all runs", function()
  local rig, one, two

  setup(function()
    rig = plane_rig.start({ env = { SESSION_DISCOVERY_ENABLED = "0" } })
    one, two = insert_run(rig, "loans/limit@1"), insert_run(rig, "cards%x")
    if one > two then one, two = two, one end
    rig:rows("update runs set source_ref = 'loans/limit@1', scenario_ref = 'loans/limit@1' where id = $1", one)
    rig:rows("update runs set source_ref = 'cards%x', scenario_ref = 'cards%x' where id = $1", two)
    insert_events(rig, one, "2026-03-01", 5, "tool.called")
    insert_events(rig, two, "2026-03-01", 5, "signal.emitted")
  end)
  teardown(function() rig:destroy() end)

  local function k(id, seq) return id:sub(1, 4) .. seq end

  it("come in the order of their time, page by page without loss or repetition", function()
    local status, page = rig:get("/events?limit=3")
    assert.same({ 200, 10, 3 }, { status, page.total, page.limit })
    assert.same({ k(one, 1), k(two, 1), k(one, 2) }, keys(page))
    assert.is_nil(page.nextCursor) -- numbers are per run
    local seen = keys(page)
    while page.nextPageToken do
      page = select(2, rig:get("/events?limit=3&pageToken=" .. page.nextPageToken))
      assert.equal(10, page.total)
      for _, key in ipairs(keys(page)) do seen[#seen + 1] = key end
    end
    assert.same({ k(one, 1), k(two, 1), k(one, 2), k(two, 2), k(one, 3), k(two, 3), k(one, 4), k(two, 4), k(one, 5),
      k(two, 5) }, seen)
    assert.is_nil(select(2, rig:get("/events?limit=10")).nextPageToken) -- the page is full, but it is the last
  end)

  it("are chosen by run, type, number, time and scenario", function()
    local function of(query)
      local status, page = rig:get("/events?" .. query)
      assert.equal(200, status)
      return keys(page), page
    end
    local found, page = of("runId=" .. one .. "&limit=2&afterSeq=1")
    assert.same({ k(one, 2), k(one, 3) }, found)
    assert.same({ 4, 3 }, { page.total, page.nextCursor })
    found, page = of("runId=" .. one .. "&limit=2&afterSeq=" .. page.nextCursor)
    assert.same({ k(one, 4), k(one, 5) }, found)
    assert.is_nil(page.nextCursor)
    assert.same({ k(two, 5) }, (of("type=signal.emitted,%20none,&afterSeq=4")))
    assert.same({ k(one, 2), k(two, 2) }, (of("afterTs=2026-03-01T00:00:02Z&beforeTs=2026-03-01T00:00:03Z")))
    assert.same({ k(one, 1) }, (of("scenarioRef=LIMIT&limit=1")))
    assert.same({ k(two, 1) }, (of("scenarioRef=cards%25x&limit=1")))
    assert.same({}, (of("scenarioRef=c%25s")))
    assert.same({}, (of("runId=" .. crypto.uuid4())))
  end)

  it("are counted up to 10 000, and beyond when asked", function()
    local id = insert_run(rig, "many")
    insert_events(rig, id, "2020-01-01", 10050, "progress.reported")
    local _, page = rig:get("/events?limit=1")
    assert.equal(10000, page.total)
    page = select(2, rig:get("/events?limit=1&exactTotal=true"))
    assert.equal(10060, page.total)
    rig:rows("delete from run_events_canonical where run_id = $1", id)
  end)

  it("are found by an index, whichever page", function()
    rig:rows("set enable_seqscan = off")
    local plan = json.encode(rig:rows([[explain select seq from run_events_canonical where tenant = 'default'
      and (ts, run_id, seq) > (now(), gen_random_uuid(), 1) order by ts, run_id, seq limit 10]]))
    assert.truthy(plan:find("Index Only Scan using run_events_canonical_listing_idx", 1, true), plan)
    assert.is_nil(plan:find("Sort", 1, true))
  end)

  it("P28: are found by the index of their type, however rare it is and however many there are", function()
    local id = insert_run(rig, "many")
    insert_events(rig, id, "2020-01-01", 20000, "message.received")
    rig:rows("vacuum analyze run_events_canonical")
    local base = { after_seq = 0, limit = 250, exact = false }
    for _, types in ipairs({ { "policy.denied" }, { "signal.emitted", "policy.denied" }, { "tool.called" } }) do
      for _, changes in ipairs({ {}, { after_ms = 1 }, { position = { ts_us = "1", run_id = id, seq = 1 } } }) do
        local query = { types = types }
        for _, more in ipairs({ base, changes }) do
          for name, value in pairs(more) do query[name] = value end
        end
        local plan = table.concat(assert(event_search.explain(rig.db, "default", query)), "\n")
        assert.is_nil(plan:find("Seq Scan", 1, true), plan)
        assert.truthy(plan:find("run_events_canonical_type_idx", 1, true), plan)
      end
    end
    local plan = table.concat(assert(event_search.explain(rig.db, "default", base)), "\n")
    assert.is_nil(plan:find("Seq Scan", 1, true), plan)
    rig:rows("delete from run_events_canonical where run_id = $1", id)
  end)

  it("of a scenario are those of its runs, few or many", function()
    local function of(query) return (select(2, rig:get("/events?scenarioRef=limit&limit=2" .. query))) end
    local function check_all()
      local page = of("")
      assert.same({ 5, { k(one, 1), k(one, 2) } }, { page.total, keys(page) })
      page = of("&pageToken=" .. page.nextPageToken)
      assert.same({ 5, { k(one, 3), k(one, 4) } }, { page.total, keys(page) })
      assert.same({ 5, 0, 5, 5 }, { of("&type=tool.called").total, of("&type=signal.emitted").total,
        of("&runId=" .. one).total, of("&exactTotal=true").total })
      assert.equal(1, of("&afterTs=2026-03-01T00:00:02Z&beforeTs=2026-03-01T00:00:03Z").total)
    end
    check_all()
    rig:rows([[insert into runs (tenant, id, status, mode, runtime_kind, scenario_ref, ended_at)
      select 'default', gen_random_uuid(), 'completed', 'live', 'rust', 'loans/limit@' || i, now()
      from generate_series(1, 2001) i]])
    check_all()
    rig:rows("delete from runs where source_ref is null")
  end)

  it("of several types come in the order of their time, each type once", function()
    local names = { "signal.emitted", "tool.called", "signal.emitted" }
    local page = select(2, rig:get("/events?limit=3&type=" .. table.concat(names, ",")))
    assert.same({ 10, { k(one, 1), k(two, 1), k(one, 2) } }, { page.total, keys(page) })
    page = select(2, rig:get("/events?limit=3&type=signal.emitted,tool.called&pageToken=" .. page.nextPageToken))
    assert.same({ 10, { k(two, 2), k(one, 3), k(two, 3) } }, { page.total, keys(page) })
    for i = 1, 20 do names[#names + 1] = "type-" .. i end
    page = select(2, rig:get("/events?limit=3&type=" .. table.concat(names, ",")))
    assert.same({ 10, { k(one, 1), k(two, 1), k(one, 2) } }, { page.total, keys(page) })
    page = select(2, rig:get("/events?limit=3&exactTotal=true&type=" .. table.concat(names, ",")))
    assert.equal(10, page.total)
  end)

  it("P33: are refused for a query that is wrong", function()
    for _, case in ipairs({ { "runId=seven", "runId must be a UUID" }, { "limit=0", "limit" },
      { "limit=5001", "limit" },
      { "afterSeq=-1", "afterSeq" }, { "afterTs=soon", "afterTs" }, { "beforeTs=late", "beforeTs" },
      { "exactTotal=some", "exactTotal" }, { "pageToken=" .. ("x"):rep(257), "pageToken" } }) do
      local status, problem = rig:get("/events?" .. case[1])
      assert.same({ 400, "VALIDATION_ERROR" }, { status, problem.errorCode })
      assert.truthy(problem.message[1]:find(case[2], 1, true), problem.message[1])
    end
    for _, token in ipairs({ "x", "AAAA", crypto.base64url_encode("1:2:3"),
      crypto.base64url_encode(("9"):rep(18) .. ":" .. one .. ":1") }) do
      local status, problem = rig:get("/events?pageToken=" .. token)
      assert.same({ 400, "VALIDATION_ERROR", "pageToken must be a nextPageToken of an earlier page" },
        { status, problem.errorCode, problem.message })
    end
  end)
end)

describe("the audit log", function()
  local rig

  setup(function()
    rig = plane_rig.start({ env = { AUTH_API_KEYS = "first,second" } })
    for i = 1, 3 do
      rig:rows([[insert into audit_log (tenant, id, actor, actor_type, action, resource, resource_id, details,
        request_id, created_at)
        values ('default', $1, $2, 'api-key', $3, 'webhook', $4, '{"a":1}', 'q', $5::timestamptz)]],
        crypto.uuid7(), "actor" .. i, "webhook." .. (i == 3 and "deleted" or "created"), "w" .. i, "2026-01-0" .. i)
    end
    rig:rows([[insert into audit_log (tenant, id, actor, actor_type, action, resource) values
      ('other', gen_random_uuid(), 'actor1', 'api-key', 'webhook.created', 'webhook')]])
  end)
  teardown(function() rig:destroy() end)

  local function list(query)
    local status, page = rig:get("/audit" .. query, { authorization = "Bearer first" })
    assert.equal(200, status)
    local ids = {}
    for i, entry in ipairs(page.data) do ids[i] = entry.resourceId end
    return ids, page
  end

  it("is listed newest first, by page and by filter", function()
    local ids, page = list("")
    assert.same({ "w3", "w2", "w1" }, ids)
    assert.same({ 3, 50, 0 }, { page.total, page.limit, page.offset })
    assert.same({ id = page.data[1].id, actor = "actor3", actorType = "api-key", action = "webhook.deleted",
      resource = "webhook", resourceId = "w3", details = { a = 1 }, requestId = "q",
      createdAt = "2026-01-03T00:00:00.000Z" }, page.data[1])
    assert.same({ "w2" }, (list("?limit=1&offset=1")))
    assert.same({ "w1" }, (list("?actor=actor1")))
    assert.same({ "w2", "w1" }, (list("?action=webhook.created")))
    assert.same({ "w2" }, (list("?resource=webhook&resourceId=w2")))
    assert.same({ "w2" }, (list("?createdAfter=2026-01-01&createdBefore=2026-01-03")))
    rig:rows("update audit_log set created_at = created_at + interval '0.4 ms' where resource_id in ('w2', 'w3')")
    assert.same({ "w3" }, (list("?createdAfter=2026-01-02T00:00:00.000Z"))) -- w2 is told to be of that time
    assert.same({ "w2", "w1" }, (list("?createdBefore=2026-01-03")))
    rig:rows("update audit_log set created_at = date_trunc('day', created_at) where resource_id in ('w2', 'w3')")
    assert.same({}, (list("?resource=run")))
  end)

  it("P29: says who did what: the caller by the digest of its key", function()
    local status, accepted = rig:post("/runs", plane_rig.descriptor(crypto.uuid4()),
      { authorization = "Bearer second", ["x-request-id"] = "r-9" })
    assert.equal(202, status)
    local _, page = list("?resourceId=" .. accepted.runId)
    local entry = page.data[1]
    assert.same({ 1, crypto.sha256_hex("second"):sub(1, 8), "api-key", "run.created", "run", "r-9" },
      { page.total, entry.actor, entry.actorType, entry.action, entry.resource, entry.requestId })
    rig:rows("delete from audit_log where resource = 'run'")
  end)

  it("is refused for a query that is wrong, and without a key", function()
    for _, case in ipairs({ { "limit=0", "limit" }, { "limit=201", "limit" }, { "offset=-1", "offset" },
      { "createdAfter=x", "createdAfter" }, { "createdBefore=x", "createdBefore" } }) do
      local status, problem = rig:get("/audit?" .. case[1], { authorization = "Bearer first" })
      assert.same({ 400, "VALIDATION_ERROR" }, { status, problem.errorCode })
      assert.truthy(problem.message[1]:find(case[2], 1, true))
    end
    assert.equal(401, (rig:get("/audit")))
  end)
end)

describe("many runs", function()
  local rig

  setup(function() rig = plane_rig.start() end)
  teardown(function() rig:destroy() end)

  local function announce() return select(2, rig:post("/runs", plane_rig.descriptor(crypto.uuid4()))).runId end

  local function missing(id)
    return { runId = id, ok = false, status = "failed", errorCode = "RUN_NOT_FOUND",
      error = "run " .. id .. " not found" }
  end

  it("P19: are archived, each with its own result in the order given", function()
    local one, none, two = announce(), crypto.uuid4(), rig:finished_run()
    local status, told = rig:post("/runs/batch/archive", { runIds = { one, none, two } })
    assert.equal(200, status)
    assert.same({ results = { { runId = one, ok = true, status = "archived" }, missing(none),
      { runId = two, ok = true, status = "archived" } } }, told)
    assert.truthy(select(2, rig:get("/runs/" .. two)).archivedAt:find("Z$"))
    local rows = rig:rows("select resource_id from audit_log where action = 'run.archived' order by resource_id")
    assert.equal(2, #rows)
  end)

  it("P19: are cancelled, each by its own rules", function()
    local descriptor = plane_rig.descriptor(crypto.uuid4())
    local plain, done = select(2, rig:post("/runs", descriptor)).runId, rig:finished_run()
    local status, told = rig:post("/runs/batch/cancel", { runIds = { plain, done } })
    assert.equal(200, status)
    assert.same({ plain, false, "failed", "VALIDATION_ERROR" },
      { told.results[1].runId, told.results[1].ok, told.results[1].status, told.results[1].errorCode })
    assert.truthy(told.results[1].error:find("cancelCallback", 1, true))
    assert.same({ runId = done, ok = true, status = "cancelled" }, told.results[2]) -- had ended: nothing to do
    assert.equal(200, (rig:post("/runs/" .. done .. "/cancel")))
    assert.same({}, rig:rows("select resource_id from audit_log where action = 'run.cancelled'"))
    assert.equal("completed", select(2, rig:get("/runs/" .. done)).status)
  end)

  it("are deleted when they have ended", function()
    local live, done = announce(), rig:finished_run()
    local _, told = rig:post("/runs/batch/delete", { runIds = { done, live } })
    assert.same({ runId = done, ok = true, status = "deleted" }, told.results[1])
    assert.same({ runId = live, ok = false, status = "failed", errorCode = "VALIDATION_ERROR",
      error = "only terminal runs (completed, failed, cancelled) can be deleted" }, told.results[2])
    assert.equal(404, (rig:get("/runs/" .. done)))
  end)

  it("are exported; one that is missing spoils nothing", function()
    local one, none, two = rig:finished_run(), crypto.uuid4(), rig:finished_run()
    local status, list = rig:post("/runs/batch/export", { runIds = { one, none, two } })
    assert.same({ 200, 3, one, two }, { status, #list, list[1].run.id, list[3].run.id })
    assert.same(rig:events(two), list[3].canonicalEvents)
    assert.same({}, list[3].rawEvents)
    assert.same({ runId = none, ok = false, errorCode = "RUN_NOT_FOUND", error = "run " .. none .. " not found" },
      list[2])
    local reply = assert(fetch.request({ url = rig.plane.url .. "/runs/batch/export", method = "POST",
      headers = { ["content-type"] = "application/json", accept = "application/x-ndjson" },
      body = json.encode({ runIds = { one, none } }) }))
    assert.equal("application/x-ndjson", reply.headers["content-type"])
    local lines = {}
    for line in tostring(reply.body):gmatch("([^\n]*)\n") do lines[#lines + 1] = json.decode(line) end
    assert.same({ 2, one, none }, { #lines, lines[1].run.id, lines[2].runId })
  end)

  it("P33: are named by a list of 1 to 100 different UUIDs", function()
    local id, many = crypto.uuid4(), {}
    for i = 1, 101 do many[i] = crypto.uuid4() end
    for _, name in ipairs({ "cancel", "archive", "delete", "export" }) do
      for _, body in ipairs({ {}, { runIds = "all" }, { runIds = json.array({}) }, { runIds = many },
        { runIds = { "x" } }, { runIds = { id, id } }, { runIds = { id }, force = true } }) do
        local status, problem = rig:post("/runs/batch/" .. name, body)
        assert.same({ 400, "VALIDATION_ERROR" }, { status, problem.errorCode })
        assert.truthy(problem.message[1]:find(body.force and "property force" or "runIds", 1, true))
      end
    end
  end)
end)
