-- A run from its announcement to its end: real PostgreSQL, our runtime over loopback gRPC, HTTP in and out.

local crypto = require("host.crypto")

local json = require("macp.core.json")

local agreement = require("spec.support.agreement")
local event_lists = require("spec.support.event_lists")
local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")
local receiver = require("spec.support.receiver")

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

describe("a run", function()
  local rig

  setup(function() rig = plane_rig.start() end)
  teardown(function() rig:destroy() end)

  it("P1: is announced, observed to its end, and adds up", function()
    local run_id, session_id, accepted = rig:announce()
    assert.equal("queued", accepted.status)
    rig:play(session_id)
    local run = rig:await(run_id, "completed")
    assert.equal(accepted.traceId, run.traceId)
    local events = rig:events(run_id)
    assert.same({
      "run.created", "run.started", "session.bound", "participant.seen", "participant.seen", "session.state.changed",
    }, { unpack(event_lists.types(events), 1, 6) })
    local tail = event_lists.types(events)
    assert.same({ "decision.finalized", "session.state.changed", "run.completed" }, { unpack(tail, #tail - 2) })
    assert.equal(events[#events].seq, run.lastEventSeq)
    local status, state = rig:get("/runs/" .. run_id .. "/state")
    assert.equal(200, status)
    assert.equal(agreement.fold(run_id, events), agreement.host_part(state))
    assert.equal("completed", state.run.status)
    assert.equal("macp.mode.decision.v1", state.mode.id)
    assert.is_false(state.mode.degraded)
    assert.same({ 2, 0 }, { state.policy.voteTally[1].allow, state.policy.voteTally[1].deny })
  end)

  it("P9: numbers what is stored without gaps or duplicates, raw and canonical together", function()
    local run_id, session_id = rig:announce()
    rig:play(session_id)
    rig:await(run_id, "completed")
    local rows = rig:rows([[select seq, kind from run_events_raw where tenant = 'default' and run_id = $1
      union all select seq, type from run_events_canonical where tenant = 'default' and run_id = $1 order by 1]],
        run_id)
    for i, row in ipairs(rows) do assert.equal(i, row.seq) end
    local envelopes = rig:rows([[select ordinal from run_events_raw where tenant = 'default' and run_id = $1
      and kind = 'stream-envelope' order by seq]], run_id)
    assert.equal(5, #envelopes)
    for i, row in ipairs(envelopes) do assert.equal(i, row.ordinal) end
  end)

  it("is found by its session even when nobody announced it", function()
    local session_id = crypto.uuid4()
    rig:play(session_id)
    local run = rig:await(session_id, "completed")
    assert.equal("session-discovery", run.sourceKind)
    assert.equal(session_id, run.runtimeSessionId)
    assert.same({ { id = "ann" }, { id = "bob" } }, run.metadata.executionRequest.session.participants)
    assert.equal(5, run.metadata.executionRequest.session.ttlMs and 5)
    local events = rig:events(session_id)
    assert.equal("run.completed", events[#events].type)
    local received = 0
    for _, event in ipairs(events) do
      if event.type == "message.received" then received = received + 1 end
    end
    assert.equal(5, received)
  end)

  it("P25: has a name of its own when the session's id is no UUID", function()
    local session_id = crypto.base64url_encode(crypto.random(24))
    rig:play(session_id)
    local status, page = eventually(function()
      local status, page = rig:get("/runs?status=completed&limit=200")
      for _, run in ipairs(page.data) do
        if run.runtimeSessionId == session_id then return status, run end
      end
    end)
    assert.equal(200, status)
    assert.not_equal(session_id, page.id)
  end)

  it("P35: that was delegated is not cancelled when the runtime refuses, unless that is forced", function()
    local session_id = crypto.uuid4()
    local descriptor = plane_rig.descriptor(session_id)
    descriptor.session.metadata = { cancellationDelegated = true }
    local _, accepted = rig:post("/runs", descriptor)
    rig:open_session(session_id)
    rig:await(accepted.runId, "running")
    -- The observer is neither the initiator nor entitled by a policy: the refusal is passed on, the run goes on.
    local status, problem = rig:post("/runs/" .. accepted.runId .. "/cancel", { reason = "enough" })
    assert.same({ 403, "FORBIDDEN" }, { status, problem.errorCode })
    rig:await(accepted.runId, "running")
    local forced, run = rig:post("/runs/" .. accepted.runId .. "/cancel?force=true", { reason = "enough" })
    assert.same({ 200, "cancelled" }, { forced, run.status })
    local twice, same = rig:post("/runs/" .. accepted.runId .. "/cancel", {})
    assert.same({ 200, "cancelled" }, { twice, same.status })
  end)

  it("ends when the initiator cancels the session", function()
    local run_id, session_id = rig:announce()
    rig:open_session(session_id)
    rig:await(run_id, "running")
    assert(rig.runtime:call("boss", "CancelSession", { session_id = session_id, reason = "off" }))
    rig:await(run_id, "cancelled")
    local events = rig:events(run_id)
    assert.equal("run.cancelled", events[#events].type)
  end)

  it("is cancelled by its callback, and stays as it is when that fails", function()
    local http = require("host.http")
    local calls = {}
    local answer = 500
    local server = assert(http.listen({ host = "127.0.0.1", port = 0 }))
    server:serve(function(req, res)
      calls[#calls + 1] = { body = json.decode(req.body), authorization = req.headers.authorization }
      res:send(answer, {}, "")
    end)
    local session_id = crypto.uuid4()
    local descriptor = plane_rig.descriptor(session_id)
    descriptor.session.metadata = { cancelCallback = { url = "http://127.0.0.1:" .. server:port() .. "/stop",
      bearer = "s3cret" } }
    local _, accepted = rig:post("/runs", descriptor)
    local path = "/runs/" .. accepted.runId
    rig:open_session(session_id)
    rig:await(accepted.runId, "running")
    local status, problem = rig:post(path .. "/cancel", { reason = "enough" })
    assert.same({ 502, "INTERNAL_ERROR" }, { status, problem.errorCode })
    rig:await(accepted.runId, "running")
    answer = 204
    local done, run = rig:post(path .. "/cancel", { reason = "enough" })
    assert.same({ 200, "cancelled" }, { done, run.status })
    assert.same({ { runId = accepted.runId, reason = "enough" }, "Bearer s3cret" },
      { calls[2].body, calls[2].authorization })
    assert.equal("[REDACTED]", run.metadata.executionRequest.session.metadata.cancelCallback.bearer)
    assert.is_nil(json.encode(run):find("s3cret", 1, true))
    server:close()
  end)

  it("is cancelled by a callback that says yes and then talks without end, of which little is read", function()
    local target = receiver.start(function(_, count, res)
      res:start(count == 1 and 200 or 500, { ["content-type"] = "text/plain" })
      while not res:closed() do
        if not res:write(("x"):rep(65536)) then break end
      end
    end)
    for _, expected in ipairs({ 200, 502 }) do
      local descriptor = plane_rig.descriptor(crypto.uuid4())
      descriptor.session.metadata = { cancelCallback = { url = target.url } }
      local _, accepted = rig:post("/runs", descriptor)
      rig:open_session(descriptor.session.sessionId)
      rig:await(accepted.runId, "running")
      local status, told = rig:post("/runs/" .. accepted.runId .. "/cancel")
      assert.same({ expected, expected == 200 and "cancelled" or "cancel callback failed: the callback answered 500" },
        { status, expected == 200 and told.status or told.message })
    end
    target:close()
  end)

  it("cannot be cancelled when nobody can be asked", function()
    local run_id = rig:announce()
    local status, problem = rig:post("/runs/" .. run_id .. "/cancel", {})
    assert.same({ 400, "VALIDATION_ERROR" }, { status, problem.errorCode })
    assert.truthy(problem.message:find("cancelCallback", 1, true))
  end)

  it("fails when its session does not come, or its mode is unknown", function()
    local session_id = crypto.uuid4()
    local descriptor = plane_rig.descriptor(session_id)
    descriptor.session.modeName = "ext.nowhere.v1"
    local _, accepted = rig:post("/runs", descriptor)
    local run = rig:await(accepted.runId, "failed")
    assert.equal("MODE_NOT_SUPPORTED", run.errorCode)
    assert.truthy(run.errorMessage:find("ext.nowhere.v1", 1, true))
  end)

  it("is judged before it is created, without a trace", function()
    local before = rig:rows("select count(*) as n from runs")[1].n
    local descriptor = plane_rig.descriptor(crypto.uuid4())
    local status, verdict = rig:post("/runs/validate", descriptor)
    assert.same({ 200, true, true }, { status, verdict.valid, verdict.runtime.reachable })
    descriptor.session.modeName = "ext.nowhere.v1"
    status, verdict = rig:post("/runs/validate", descriptor)
    assert.same({ 200, false }, { status, verdict.valid })
    assert.truthy(verdict.errors[1]:find("ext.nowhere.v1", 1, true))
    local elsewhere = plane_rig.descriptor(crypto.uuid4(), { runtime = { kind = "cobol" } })
    status, verdict = rig:post("/runs/validate", elsewhere)
    assert.same({ 200, { valid = true, errors = {}, runtime = { reachable = false, supportedModes = {} },
      warnings = { "Runtime not reachable: runtime.kind must be one of: grpc, rust" } } }, { status, verdict })
    elsewhere.session.sessionId = "short"
    status, verdict = rig:post("/runs/validate", elsewhere)
    assert.same({ 200, false, 1, 1 }, { status, verdict.valid, #verdict.errors, #verdict.warnings })
    descriptor.session.modeName, descriptor.session.participants = nil, nil
    status, verdict = rig:post("/runs/validate", descriptor)
    assert.same({ 200, false, { "session.modeName must be a string", "session.participants must be an array" } },
      { status, verdict.valid, verdict.errors })
    descriptor.session = nil
    status, verdict = rig:post("/runs/validate", descriptor)
    assert.same({ 200, false, { "session must be an object" } }, { status, verdict.valid, verdict.errors })
    assert.same({ true, true }, { verdict.runtime.capabilities.policyRegistry.listPolicies,
      verdict.runtime.capabilities.sessions.stream })
    assert.equal(before, rig:rows("select count(*) as n from runs")[1].n)
  end)

  it("receives the signals that name its session", function()
    local run_id, session_id = rig:announce()
    rig:open_session(session_id)
    rig:await(run_id, "running")
    local runtime = require("spec.support.runtime_client")
    eventually(function()
      rig.runtime:send("ann", runtime.envelope({ mode = "", message_type = "Signal", message_id = crypto.uuid4(),
        payload = runtime.payload("macp.v1.SignalPayload", { signal_type = "budget.low", data = '{"left":3}',
          correlation_session_id = session_id }) }))
      local _, state = rig:get("/runs/" .. run_id .. "/state")
      return #state.signals.signals > 0 and state.signals.signals[1].name == "budget.low"
    end)
    local seen = 0
    for _, event in ipairs(rig:events(run_id)) do
      if event.type == "participant.seen" then seen = seen + 1 end
    end
    assert.equal(3, seen) -- ann, bob, and the initiator with the first envelope: no signal adds one
  end)

  it("leaves an audit entry of who made and ended it", function()
    local run_id = rig:announce()
    eventually(function()
      local rows = rig:rows("select action, actor_type, request_id from audit_log where resource_id = $1", run_id)
      return #rows == 1 and rows[1].action == "run.created" and rows[1].request_id ~= nil
    end)
  end)

  it("writes webhook deliveries in the transaction of the event, for matching subscriptions only", function()
    local all, some = crypto.uuid4(), crypto.uuid4()
    rig:rows([[insert into webhooks (tenant, id, url, events, secret) values ('default', $1, 'http://127.0.0.1:1/',
      '[]', 's'),
      ('default', $2, 'http://127.0.0.1:1/', '["run.completed"]', 's')]], all, some)
    local run_id, session_id = rig:announce()
    rig:play(session_id)
    rig:await(run_id, "completed")
    local rows = rig:rows([[select webhook_id, event, status, convert_from(body, 'UTF8') as body from webhook_deliveries
      where tenant = 'default' and run_id = $1 order by event, webhook_id = $2]], run_id, some)
    local told = {}
    for i, row in ipairs(rows) do told[i] = { row.webhook_id == all and "all" or "some", row.event, row.status } end
    assert.same({ { "all", "run.completed", "pending" }, { "some", "run.completed", "pending" },
      { "all", "run.started", "pending" } }, told)
    assert.equal(run_id, json.decode(rows[1].body).runId)
    rig:rows("delete from webhooks")
  end)
end)

describe("a mode", function()
  local fs = require("host.fs")
  local task = require("host.task")
  local rig, dir

  local function write(name, text) assert(fs.write(dir .. "/tally/" .. name, text)) end

  local MODE = [[
return {
  id = "ext.tally.v1", version = "1.0.0", title = "Tally", summary = "Counts what is said.",
  participants = { model = "peer", min = 1 }, determinism = "semantic-deterministic",
  state = { said = 0 },
  messages = { Say = { from = "participant", payload = "string text = 1;",
    apply = function(s) s.said = s.said + 1 end } },
  outcomes = { { action = "tally.completed", positive = true, when = function(s) return s.said > 0 end } },
}]]
  local REDUCER = [[
return {
  render = function(s, c) return { said = s.said, heard = c.extra.heard or 0, label = "LABEL" } end,
  reduce = { ["message.received"] = function(extra) extra.heard = (extra.heard or 0) + 1 end },
}]]

  before_each(function()
    dir = assert(fs.temp_dir("macp-modes-"))
    assert(fs.mkdir_p(dir .. "/tally"))
    write("mode.lua", MODE)
    write("reducer.lua", (REDUCER:gsub("LABEL", "first")))
    rig = plane_rig.start({ mode_dirs = { dir } })
  end)
  after_each(function()
    rig:destroy()
    fs.remove_tree(dir)
  end)

  local function say(id, n)
    local runtime = require("spec.support.runtime_client")
    for _ = 1, n do
      local ack = rig.runtime:send("ann", runtime.envelope({ mode = "ext.tally.v1", message_type = "Say",
        message_id = crypto.uuid4(), session_id = id, payload = "" }))
      assert(ack.ok, ack.error and ack.error.message)
    end
  end

  local function start(id)
    local runtime = require("spec.support.runtime_client")
    local ack = rig.runtime:send("boss", runtime.start_envelope(id, nil, { mode = "ext.tally.v1" }))
    assert(ack.ok, ack.error and ack.error.message)
  end

  local function view(id, path)
    local status, state = rig:get("/runs/" .. id .. (path or "/state"))
    return status == 200 and state.mode and state.mode.view or nil
  end

  it("shows its own fold of the events, the same after a restart and in replays", function()
    local id = crypto.uuid4()
    start(id)
    say(id, 3)
    eventually(function() return view(id) and view(id).said == 3 end)
    assert.same({ said = 3, heard = 4, label = "first" }, view(id))
    rig.plane:close()
    rig:rows("delete from run_projections where run_id = $1", id)
    rig.plane = rig:start_plane()
    say(id, 2)
    eventually(function() return view(id) and view(id).said == 5 end)
    assert.same({ said = 5, heard = 6, label = "first" }, view(id))
    assert.same(view(id), view(id, "/replay/state"))
  end)

  it("re-renders runs, live and finished, when its presentation changes, and keeps their rules", function()
    local live, ended = crypto.uuid4(), crypto.uuid4()
    start(live)
    say(live, 1)
    start(ended)
    say(ended, 2)
    assert(rig.runtime:call("boss", "CancelSession", { session_id = ended, reason = "over" }))
    rig:await(ended, "cancelled")
    eventually(function() return view(live) and view(live).said == 1 end)
    local before = rig:rows("select presentation from run_projections where run_id = $1", ended)[1].presentation
    write("reducer.lua", (REDUCER:gsub("LABEL", "second")))
    eventually(function() return view(live).label == "second" end)
    assert.same({ said = 2, heard = 3, label = "second" }, view(ended))
    assert.not_equal(before,
      rig:rows("select presentation from run_projections where run_id = $1", ended)[1].presentation)
    -- new rules are for new sessions only
    write("mode.lua", (MODE:gsub("s.said %+ 1", "s.said + 10")))
    task.sleep(200)
    say(live, 1)
    eventually(function() return view(live).said == 2 end)
    local fresh = crypto.uuid4()
    eventually(function()
      fresh = crypto.uuid4()
      start(fresh)
      say(fresh, 1)
      return eventually(function() return view(fresh) and view(fresh).said ~= 0 and view(fresh) end).said == 10
    end)
    local _, modes = rig:get("/admin/modes")
    assert.truthy(json.encode(modes):find("ext.tally.v1", 1, true))
  end)

  it("is served from an archived revision again after a rollback", function()
    local first = crypto.uuid4()
    start(first)
    say(first, 1)
    eventually(function() return view(first) and view(first).said == 1 end)
    local _, state = rig:get("/runs/" .. first .. "/state")
    write("mode.lua", (MODE:gsub("s.said %+ 1", "s.said + 10")))
    eventually(function()
      local rev = rig.plane.registry:get("ext.tally.v1")
      return rev and rev.hash ~= state.mode.revision
    end)
    local status, answer = rig:post("/admin/modes/ext.tally.v1/rollback", { revision = state.mode.revision })
    assert.same({ 200, "ok" }, { status, answer.status })
    assert.equal(state.mode.revision, rig.plane.registry:get("ext.tally.v1").hash)
    local ENTRIES = "select count(*) as n from audit_log where action = 'mode.reloaded' and "
    assert.equal(1, rig:rows(ENTRIES .. "actor_type = 'anonymous'")[1].n)
    eventually(function() -- nobody asked for the change before: it was saved
      return rig:rows(ENTRIES .. [[actor || actor_type = 'macp-control-planesystem' and resource_id = 'ext.tally.v1'
        and details->>'how' = 'loaded' and details->>'revision' <> $1]], state.mode.revision)[1].n > 0
    end)
  end)
end)
