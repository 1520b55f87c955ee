-- Exports of runs, and runs compared.

local crypto = require("host.crypto")
local fetch = require("host.fetch")
local task = require("host.task")

local json = require("macp.core.json")
local event_pages = require("macp.store.event_pages")

local plane_rig = require("spec.support.plane_rig")

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

describe("a run", function()
  local rig

  setup(function() rig = plane_rig.start() end)
  teardown(function() rig:destroy() end)

  -- A run of n stored events that nobody observed.
  local function long(n)
    local id = crypto.uuid4()
    rig:rows([[insert into runs (tenant, id, status, mode, runtime_kind, last_event_seq, ended_at)
      values ('default', $1, 'completed', 'live', 'rust', $2, now())]], id, n)
    rig:rows([[insert into run_events_canonical (tenant, run_id, seq, ts, type, document)
      select 'default', $1::uuid, i, now(), 'tool.called', '{"id":"' || gen_random_uuid() || '","runId":"'
        || ($1::uuid)::text || '","seq":' || i || ',"ts":"2026-05-06T07:08:09.123Z","type":"tool.called",'
        || '"schemaVersion":3,"source":{"kind":"runtime","name":"r"},"data":{"type":"a \"type\": b","n":' || i
        || ',"text":"h\u00e4tte ü"}}'
      from generate_series(1, $2::int) i]], id, n)
    return id
  end

  local function lines_of(path, headers)
    local reply = assert(fetch.request({ url = rig.plane.url .. path, headers = headers or {},
      max_body_bytes = 268435456 }))
    assert.equal(200, reply.status)
    assert.equal("application/x-ndjson", reply.headers["content-type"])
    local text, out = tostring(reply.body), {}
    assert.equal("\n", text:sub(-1))
    for line in text:gmatch("[^\n]+") do out[#out + 1] = assert(json.decode(line)) end
    return out
  end

  it("is exported as one document with everything that is known about it", function()
    local run_id = rig:finished_run(function(d)
      d.session.metadata = { cancelCallback = { url = "http://h/x", bearer = "s3cret" } }
    end)
    local status, bundle, headers = rig:get("/runs/" .. run_id .. "/export")
    assert.same({ 200, "application/json; charset=utf-8" }, { status, headers["content-type"] })
    assert.same(rig:events(run_id), bundle.canonicalEvents)
    assert.same(select(2, rig:get("/runs/" .. run_id)), bundle.run)
    assert.same(select(2, rig:get("/runs/" .. run_id .. "/state")), bundle.projection)
    assert.same(select(2, rig:get("/runs/" .. run_id .. "/metrics")), bundle.metrics)
    assert.same(select(2, rig:get("/runs/" .. run_id .. "/artifacts")), bundle.artifacts)
    assert.same({ bundle.run.runtimeSessionId, "macp.mode.decision.v1", "boss", "SESSION_STATE_RESOLVED", {} },
      { bundle.session.runtimeSessionId, bundle.session.modeName, bundle.session.initiatorParticipantId,
        bundle.session.sessionState, bundle.rawEvents })
    assert.same({ run_id, "rust", true }, { bundle.session.runId, bundle.session.runtimeKind,
      bundle.session.capabilities.modeRegistry.listModes })
    -- SessionStart, a proposal, two votes and the commitment
    assert.same({ bundle.canonicalEvents[#bundle.canonicalEvents].seq, 5, json.null, json.null },
      { bundle.session.lastStreamCursor, bundle.session.runtimeCursor, bundle.session.streamConnectedAt,
        bundle.session.streamDisconnectedAt })
    for _, name in ipairs({ "createdAt", "updatedAt", "lastSeenAt" }) do
      assert.matches("^%d+%-%d+%-%d+T.+Z$", bundle.session[name])
    end
    assert.truthy(bundle.exportedAt:find("^%d+%-%d+%-%d+T.+Z$"))
    assert.is_nil(json.encode(bundle):find("s3cret", 1, true)) -- W30
  end)

  it("P17: has canonical events by default, raw ones when asked, and as many as asked", function()
    local run_id = rig:finished_run()
    local path = "/runs/" .. run_id .. "/export"
    local _, without = rig:get(path .. "?includeCanonical=false")
    assert.same({}, without.canonicalEvents)
    local _, few = rig:get(path .. "?eventLimit=3&includeRaw=true")
    local events = rig:events(run_id)
    assert.same({ events[1], events[2], events[3] }, few.canonicalEvents)
    assert.equal(3, #few.rawEvents)
    local _, all = rig:get(path .. "?includeRaw=true")
    local kinds, commitment = {}, nil
    local ids = {}
    for _, event in ipairs(events) do ids[event.id] = true end
    for _, raw in ipairs(all.rawEvents) do
      assert.same({ "rust-runtime", nil }, { raw.sourceName, ids[raw.id] })
      ids[raw.id] = true
      kinds[raw.kind] = (kinds[raw.kind] or 0) + 1
      if raw.payload.envelope and raw.payload.envelope.messageType == "Proposal" then commitment = raw end
    end
    assert.equal(5, kinds["stream-envelope"])
    assert.is_true(kinds["stream-status"] >= 1)
    local envelope = commitment.payload.envelope
    assert.same({ "1.0", "macp.mode.decision.v1", "ann", run_id, "stream-envelope", commitment.ts },
      { envelope.macpVersion, envelope.mode, envelope.sender, commitment.runId, commitment.payload.kind,
        commitment.payload.receivedAt })
    assert.truthy(crypto.base64_decode(envelope.payloadBase64):find("tests pass", 1, true))
  end)

  it("P39: is exported as lines to those who read lines; each keeps its event's type", function()
    local run_id = rig:finished_run()
    local events = rig:events(run_id)
    local lines = lines_of("/runs/" .. run_id .. "/export?format=jsonl&includeRaw=true",
      { accept = "application/x-ndjson" })
    assert.equal("header", lines[1].type)
    assert.same(select(2, rig:get("/runs/" .. run_id)), lines[1].run)
    local raw = 0
    for i = 2, #lines do
      local line = lines[i]
      if line.type == "raw_event" then
        raw = raw + 1
      else
        assert.same({ "canonical_event", events[i - 1].type }, { line.type, line.eventType })
        line.type, line.eventType = line.eventType, nil
        assert.same(events[i - 1], line)
      end
    end
    assert.equal(#lines - 1 - #events, raw)
    assert.is_true(raw > 5)
    -- A console that asks for jsonl but reads JSON gets JSON.
    local status, bundle, headers = rig:get("/runs/" .. run_id .. "/export?format=jsonl", { accept = "*/*" })
    assert.same({ 200, "application/json; charset=utf-8", #events },
      { status, headers["content-type"], #bundle.canonicalEvents })
    headers = select(3, rig:get("/runs/" .. run_id .. "/export?format=json", { accept = "application/x-ndjson" }))
    assert.equal("application/json; charset=utf-8", headers["content-type"])
  end)

  it("is streamed whole, however long, across pages", function()
    local id = long(2500)
    local lines = lines_of("/runs/" .. id .. "/export/stream")
    assert.equal(2501, #lines)
    for i = 1, 2500 do
      local line = lines[i + 1]
      assert.same({ i, "canonical_event", "tool.called", { type = 'a "type": b', n = i, text = "hätte ü" } },
        { line.seq, line.type, line.eventType, line.data })
    end
    local _, bundle = rig:get("/runs/" .. id .. "/export?eventLimit=1999")
    assert.equal(1999, #bundle.canonicalEvents)
    assert.equal(1999, bundle.canonicalEvents[1999].seq)
    local run_id = rig:finished_run()
    local kinds = {}
    for _, line in ipairs(lines_of("/runs/" .. run_id .. "/export/stream?includeRaw=true")) do
      kinds[line.type] = (kinds[line.type] or 0) + 1
    end
    assert.same({ 1, #rig:events(run_id) }, { kinds.header, kinds.canonical_event })
    assert.is_true(kinds.raw_event > 5)
  end)

  it("is read no faster than the client takes it, and not at all once it left", function()
    local id = long(1)
    rig:rows([[update run_events_canonical set document = '{"id":"x","runId":"y","seq":1,"ts":"z","type":"t","data":"'
      || repeat('x', 400000) || '"}' where run_id = $1]], id)
    rig:rows([[insert into run_events_canonical (tenant, run_id, seq, ts, type, document)
      select tenant, run_id, i, ts, type, document from run_events_canonical, generate_series(2, 100) i
      where run_id = $1]], id)
    rig:get("/runs/" .. id .. "/state")
    local reply = assert(fetch.open({ url = rig.plane.url .. "/runs/" .. id .. "/export/stream", headers = {},
      timeout_ms = 30000, max_body_bytes = 1073741824 }))
    assert(reply:read())
    local read, real = 0, event_pages.canonical
    event_pages.canonical = function(...) -- counts; each page is one event of 400 kB
      read = read + 1
      return real(...)
    end
    finally(function() event_pages.canonical = real end)
    local waiting
    for _ = 1, 20 do -- what lies between the two fills up, then nothing moves any more
      waiting = read
      task.sleep(700)
      if read == waiting then break end
    end
    assert.equal(waiting, read)
    assert.is_true(waiting < 80, waiting)
    reply:close()
    assert.equal(200, (rig:get("/healthz")))
    require("spec.support.eventually")(function()
      local text = tostring(assert(fetch.request({ url = rig.plane.url .. "/metrics" })).body)
      return text:find('http_requests_total{method="GET",path="/runs/:id/export/stream",status_code="200"}', 1, true)
    end)
  end)

  it("that does not exist is not exported", function()
    for _, name in ipairs({ "export", "export/stream" }) do
      local id = crypto.uuid4()
      local status, problem, headers = rig:get("/runs/" .. id .. "/" .. name)
      assert.same({ 404, "RUN_NOT_FOUND", "run " .. id .. " not found" },
        { status, problem.errorCode, problem.message })
      assert.is_nil(headers["transfer-encoding"]) -- W39
      status, problem = rig:get("/runs/x/" .. name)
      assert.same({ 400, "Validation failed (uuid is expected)" }, { status, problem.message })
    end
    for query, field in pairs({ ["eventLimit=0"] = "eventLimit", ["eventLimit=50001"] = "eventLimit",
      ["eventLimit=x"] = "eventLimit", ["format=xml"] = "format", ["includeRaw=2"] = "includeRaw" }) do
      local status, problem = rig:get("/runs/" .. crypto.uuid4() .. "/export?" .. query)
      assert.same({ 400, "VALIDATION_ERROR" }, { status, problem.errorCode }, query)
      assert.truthy(problem.message[1]:find(field, 1, true))
    end
  end)

  it("is compared with another one", function()
    local left, right = rig:finished_run(), rig:finished_run(function(d) d.session.participants[3] = { id = "cy" } end)
    local status, told = rig:post("/runs/compare", { leftRunId = left, rightRunId = right })
    assert.equal(200, status)
    local function duration(id) return select(2, rig:get("/runs/" .. id .. "/metrics")).durationMs end
    local mode = "macp.mode.decision.v1"
    assert.same({ left = { runId = left, status = "completed", modeName = mode, durationMs = duration(left) },
      right = { runId = right, status = "completed", modeName = mode, durationMs = duration(right) },
      statusMatch = true, durationDeltaMs = duration(right) - duration(left), confidenceDelta = told.confidenceDelta,
      participantsDiff = { added = {}, removed = {}, common = { "ann", "bob", "boss" } },
      signalsDiff = { added = {}, removed = {} } }, told)
    local fresh = select(2, rig:post("/runs", plane_rig.descriptor(crypto.uuid4()))).runId
    told = select(2, rig:post("/runs/compare", { leftRunId = left, rightRunId = fresh }))
    assert.same({ false, { "ann", "bob", "boss" }, {} },
      { told.statusMatch, told.participantsDiff.removed, told.participantsDiff.added })
    told = select(2, rig:post("/runs/compare", { leftRunId = fresh, rightRunId = left }))
    assert.same({ { "ann", "bob", "boss" }, {} }, { told.participantsDiff.added, told.participantsDiff.removed })
  end)

  it("is not compared with none: the left one is missed first", function()
    local one, two, known = crypto.uuid4(), crypto.uuid4(), rig:finished_run()
    for _, case in ipairs({ { one, two, one }, { known, two, two }, { one, known, one } }) do
      local status, problem = rig:post("/runs/compare", { leftRunId = case[1], rightRunId = case[2] })
      assert.same({ 404, "RUN_NOT_FOUND", "run " .. case[3] .. " not found" },
        { status, problem.errorCode, problem.message })
    end
    for _, body in ipairs({ { leftRunId = one }, { leftRunId = "x", rightRunId = two },
      { leftRunId = one, rightRunId = "11111111-1111-f111-8111-111111111111" },
      { leftRunId = one, rightRunId = "11111111-1111-4111-c111-111111111111" } }) do
      local status, problem = rig:post("/runs/compare", body)
      assert.same({ 400, "VALIDATION_ERROR" }, { status, problem.errorCode })
      assert.truthy(problem.message[1]:find("RunId must be a", 1, true), problem.message[1])
    end
    local status, problem = rig:post("/runs/compare", { leftRunId = one, rightRunId = two, deep = true })
    assert.same({ 400, { "property deep should not exist" } }, { status, problem.message })
  end)
end)
