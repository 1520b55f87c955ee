-- What callers learn about single runs: counters, trace, messages, artifacts.

local crypto = require("host.crypto")
local fetch = require("host.fetch")

local json = require("macp.core.json")

local plane_rig = require("spec.support.plane_rig")

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

describe("of a run", function()
  local rig

  setup(function() rig = plane_rig.start() end)
  teardown(function() rig:destroy() end)

  it("the counters are numbers, live and stored alike", function()
    local run_id, session_id = rig:announce()
    rig:open_session(session_id)
    rig:await(run_id, "running")
    local status, live = rig:get("/runs/" .. run_id .. "/metrics")
    assert.equal(200, status)
    assert.same({ run_id, 0, "SESSION_STATE_OPEN" }, { live.runId, live.proposalCount, live.sessionState })
    local done = rig:finished_run()
    local events = rig:events(done)
    local _, told = rig:get("/runs/" .. done .. "/metrics")
    local first, last = events[1].ts, events[#events].ts
    assert.same({ runId = done, eventCount = #events, messageCount = 5, signalCount = 0, proposalCount = 3,
      toolCallCount = 0, decisionCount = 1, streamReconnectCount = 0, promptTokens = 0, completionTokens = 0,
      totalTokens = 0, estimatedCostUsd = 0, firstEventAt = first, lastEventAt = last, durationMs = told.durationMs,
      sessionState = "SESSION_STATE_RESOLVED" }, told)
    assert.is_number(told.durationMs)
  end)

  it("the counters are zeros, tokens included, when nothing was counted", function()
    local run_id = rig:finished_run()
    rig:rows("delete from run_metrics where run_id = $1", run_id)
    local _, told = rig:get("/runs/" .. run_id .. "/metrics")
    assert.same({ runId = run_id, eventCount = 0, messageCount = 0, signalCount = 0, proposalCount = 0,
      toolCallCount = 0, decisionCount = 0, streamReconnectCount = 0, promptTokens = 0, completionTokens = 0,
      totalTokens = 0, estimatedCostUsd = 0 }, told)
  end)

  it("the trace names the run's status, scenario and artifacts", function()
    local session = plane_rig.descriptor(crypto.uuid4()).session
    session.metadata = { source = "spec", sourceRef = "loans@1" }
    local run_id, _, accepted = rig:announce({ session = session })
    rig:open_session(session.sessionId)
    rig:await(run_id, "running")
    local status, told = rig:get("/runs/" .. run_id .. "/traces")
    local _, artifacts = rig:get("/runs/" .. run_id .. "/artifacts")
    assert.equal(200, status)
    assert.same({ traceId = accepted.traceId, spanCount = 0, linkedArtifacts = { artifacts[1].id },
      runStatus = "running", scenarioRef = "loans@1" }, told)
  end)

  it("the messages are those that were observed, in order, page by page", function()
    local run_id, session_id = rig:finished_run()
    local status, all = rig:get("/runs/" .. run_id .. "/messages")
    assert.equal(200, status)
    local kinds = {}
    for i, message in ipairs(all) do kinds[i] = message.messageType .. " " .. message.sender end
    assert.same({ "SessionStart boss", "Proposal ann", "Vote ann", "Vote bob", "Commitment boss" }, kinds)
    local event
    for _, found in ipairs(rig:events(run_id)) do
      if found.id == all[2].id then event = found end
    end
    assert.same({ id = event.id, runId = run_id, runtimeSessionId = session_id, seq = event.seq,
      messageId = event.data.messageId, messageType = "Proposal", category = "observed", sender = "ann",
      recipients = {}, status = "accepted", payloadDescriptor = event.data.decodedPayload or event.data.payload,
      ack = json.null, errorMessage = json.null, createdAt = event.ts, acceptedAt = event.ts, updatedAt = event.ts },
      all[2])
    assert.truthy(json.encode(all[2].payloadDescriptor):find("tests pass", 1, true))
    local _, page = rig:get("/runs/" .. run_id .. "/messages?limit=2&afterSeq=" .. all[2].seq)
    assert.same({ all[3], all[4] }, page)
    assert.same({}, select(2, rig:get("/runs/" .. rig:announce() .. "/messages")))
  end)

  it("the artifacts are listed oldest first; a new one is announced by an event", function()
    local run_id, session_id = rig:announce()
    rig:open_session(session_id)
    rig:await(run_id, "running")
    local status, made = rig:post("/runs/" .. run_id .. "/artifacts",
      { kind = "report", label = "Findings", uri = "https://example.org/f", inline = { a = { 1, 2 } } })
    assert.equal(201, status)
    assert.same({ runId = run_id, kind = "report", label = "Findings", uri = "https://example.org/f",
      inline = { a = { 1, 2 } }, id = made.id, createdAt = made.createdAt }, made)
    local bare = assert(fetch.request({ url = rig.plane.url .. "/runs/" .. run_id .. "/artifacts", method = "POST",
      headers = { ["content-type"] = "application/json" },
      body = '{"label":"in \\"order\\"","uri":"u","kind":"json"}' }))
    local members = {}
    for name in tostring(bare.body):gmatch('"(%a+)":') do members[#members + 1] = name end
    assert.same({ "runId", "kind", "label", "uri", "id", "createdAt" }, members)
    local _, list = rig:get("/runs/" .. run_id .. "/artifacts")
    assert.same({ "trace", "report" }, { list[1].kind, list[2].kind })
    assert.same(made, list[2])
    local event -- the session's first message may come after it
    for _, found in ipairs(rig:events(run_id)) do
      if found.type == "artifact.created" and found.subject.id == made.id then event = found end
    end
    assert.same({ "artifact.created", { kind = "artifact", id = made.id },
      { kind = "report", label = "Findings", artifactId = made.id, uri = "https://example.org/f" },
      "macp-control-plane", "observability-controller" },
      { event.type, event.subject, event.data, event.source.kind, event.source.name })
    rig:propose(session_id, "p1") -- the history goes on behind it
    require("spec.support.eventually")(function()
      local now = rig:events(run_id)
      return now[#now].seq > event.seq
    end)
  end)

  it("P38: an artifact can come after the end; history and projection gain it, the duration does not", function()
    local run_id = rig:finished_run()
    local _, before = rig:get("/runs/" .. run_id .. "/metrics")
    local last = #rig:events(run_id)
    local status, made = rig:post("/runs/" .. run_id .. "/artifacts", { kind = "log", label = "late" })
    assert.equal(201, status)
    local events = rig:events(run_id)
    assert.same({ last + 1, "artifact.created", events[last].seq + 1 },
      { #events, events[last + 1].type, events[last + 1].seq })
    local _, after = rig:get("/runs/" .. run_id .. "/metrics")
    assert.same({ before.eventCount + 1, before.durationMs, before.lastEventAt },
      { after.eventCount, after.durationMs, after.lastEventAt })
    local _, state = rig:get("/runs/" .. run_id .. "/state")
    assert.same({ events[last + 1].seq, "completed", made.id }, { state.timeline.latestSeq, state.run.status,
      state.trace.linkedArtifacts[#state.trace.linkedArtifacts] })
    local _, run = rig:get("/runs/" .. run_id)
    assert.equal(events[last + 1].seq, run.lastEventSeq)
    assert.equal(200, (rig:post("/runs/" .. run_id .. "/projection/rebuild"))) -- counts all of it again
    local _, again = rig:get("/runs/" .. run_id .. "/metrics")
    assert.same({ after.eventCount, before.durationMs, before.lastEventAt },
      { again.eventCount, again.durationMs, again.lastEventAt })
  end)

  it("an artifact that another process attaches makes the owner of the run load it again", function()
    local run_id, session_id = rig:announce()
    rig:open_session(session_id)
    rig:await(run_id, "running")
    local second = rig:start_plane()
    local first = rig.plane
    rig.plane = second
    local status = rig:post("/runs/" .. run_id .. "/artifacts", { kind = "log", label = "elsewhere" })
    rig.plane = first
    assert.equal(201, status)
    rig:propose(session_id, "p1")
    rig:vote(session_id, "ann", "p1")
    rig:vote(session_id, "bob", "p1")
    rig:commit(session_id)
    rig:await(run_id, "completed")
    local count = {}
    for _, event in ipairs(rig:events(run_id)) do count[event.type] = (count[event.type] or 0) + 1 end
    assert.same({ 2, 5, 1 }, { count["artifact.created"], count["message.received"], count["run.completed"] })
    second:close()
  end)

  it("P13: the projection is folded again on request, live or ended, whatever is stored", function()
    local run_id = rig:finished_run()
    local _, before = rig:get("/runs/" .. run_id .. "/state")
    rig:rows("update run_projections set document = '{}', seq = 100000 where run_id = $1", run_id)
    local status, told = rig:request("POST", "/runs/" .. run_id .. "/projection/rebuild", "")
    assert.equal(200, status)
    assert.same({ true, before.timeline.latestSeq, before }, { told.rebuilt, told.latestSeq, told.projection })
    assert.same(before, select(2, rig:get("/runs/" .. run_id .. "/state")))
    assert.equal(1, rig:rows("select count(*) as n from audit_log where action = 'projection.rebuilt' "
      .. "and resource_id = $1", run_id)[1].n)
    local live, session_id = rig:announce()
    rig:open_session(session_id)
    rig:await(live, "running")
    status, told = rig:post("/runs/" .. live .. "/projection/rebuild")
    assert.same({ 200, true, "running" }, { status, told.rebuilt, told.projection.run.status })
    local id = crypto.uuid4()
    local problem
    status, problem = rig:post("/runs/" .. id .. "/projection/rebuild")
    assert.same({ 404, "RUN_NOT_FOUND", "run " .. id .. " not found" }, { status, problem.errorCode, problem.message })
    assert.equal(400, (rig:post("/runs/x/projection/rebuild")))
    local second, first = rig:start_plane(), rig.plane
    rig.plane = second
    status, problem = rig:post("/runs/" .. live .. "/projection/rebuild")
    rig.plane = first
    second:close()
    assert.same({ 409, "CONFLICT", "run " .. live .. " is observed by another process" },
      { status, problem.errorCode, problem.message })
  end)

  local WRONG = {
    { { label = "x" }, "kind must be a string" }, { { kind = "film", label = "x" }, "kind must be one of" },
    { { kind = "log" }, "label must be a string" }, { { kind = "log", label = "" }, "label" },
    { { kind = "log", label = ("x"):rep(256) }, "label" }, { { kind = "log", label = "x", uri = 1 }, "uri must be" },
    { { kind = "log", label = "x", inline = "text" }, "inline must be" },
    { { kind = "log", label = "x", size = 1 }, "property size should not exist" },
  }

  it("wrong artifacts are refused, naming the field", function()
    local run_id = rig:announce()
    for _, case in ipairs(WRONG) do
      local status, problem = rig:post("/runs/" .. run_id .. "/artifacts", case[1])
      assert.same({ 400, "VALIDATION_ERROR" }, { status, problem.errorCode })
      assert.truthy(table.concat(problem.message, "\n"):find(case[2], 1, true),
        json.encode(problem))
    end
    assert.equal(0, rig:rows("select count(*) as n from run_artifacts where run_id = $1", run_id)[1].n)
  end)

  it("nothing is told when there is none, or its id is no UUID", function()
    for _, name in ipairs({ "metrics", "traces", "messages", "artifacts" }) do
      local id = crypto.uuid4()
      local status, problem = rig:get("/runs/" .. id .. "/" .. name)
      assert.same({ 404, "RUN_NOT_FOUND", "run " .. id .. " not found" },
        { status, problem.errorCode, problem.message }, name)
      status, problem = rig:get("/runs/x/" .. name)
      assert.same({ 400, "Validation failed (uuid is expected)" }, { status, problem.message })
    end
    local status, problem = rig:post("/runs/" .. crypto.uuid4() .. "/artifacts", { kind = "log", label = "x" })
    assert.same({ 404, "RUN_NOT_FOUND" }, { status, problem.errorCode })
    for _, query in ipairs({ "limit=0", "limit=5001", "afterSeq=-1", "afterSeq=x" }) do
      status, problem = rig:get("/runs/" .. crypto.uuid4() .. "/messages?" .. query)
      assert.same({ 400, "VALIDATION_ERROR" }, { status, problem.errorCode })
    end
  end)
end)
