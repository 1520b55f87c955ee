-- What callers do to single runs: suspend, resume, clone, archive, delete, and what was removed.

local crypto = require("host.crypto")

local json = require("macp.core.json")
local lifecycle = require("macp.protocol.lifecycle")

local event_lists = require("spec.support.event_lists")
local eventually = require("spec.support.eventually")
local client = require("spec.support.runtime_client")
local plane_rig = require("spec.support.plane_rig")
local system = require("spec.support.system")

local TOKENS = [=[[{"token":"boss","sender":"boss","is_observer":true},{"token":"ann","sender":"ann"},
  {"token":"bob","sender":"bob"},{"token":"plane","sender":"plane","is_observer":true}]]=]

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

local function running(rig, changes)
  local run_id, session_id = rig:announce(changes)
  rig:open_session(session_id)
  rig:await(run_id, "running")
  return run_id, session_id
end

local function types(rig, run_id) return event_lists.types(rig:events(run_id)) end

local function audited(rig, run_id, action)
  return rig:rows([[select actor, actor_type, resource, request_id, details from audit_log
    where tenant = 'default' and resource_id = $1 and action = $2]], run_id, action)
end

describe("a plane with authority over its sessions", function()
  local rig

  -- The initiator's own token: it may pause what it started, and as an observer it sees everything.
  setup(function()
    rig = plane_rig.start({ env = { RUNTIME_BEARER_TOKEN = "boss" },
      runtime_env = { MACP_AUTH_TOKENS_JSON = TOKENS } })
  end)
  teardown(function() rig:destroy() end)

  it("suspends and resumes a run: session, events, webhooks and audit follow", function()
    local hook = crypto.uuid4()
    rig:rows([[insert into webhooks (tenant, id, url, secret)
      values ('default', $1, 'http://127.0.0.1:1/', 's')]], hook)
    local run_id, session_id = running(rig)
    local status, run = rig:post("/runs/" .. run_id .. "/suspend", { reason = "lunch" }, { ["x-request-id"] = "r-1" })
    assert.same({ 200, run_id, "suspended" }, { status, run.id, run.status })
    local metadata = assert(rig.runtime:call("boss", "GetSession", { session_id = session_id })).metadata
    assert.equal(lifecycle.SUSPENDED, metadata.state)
    local problem
    status, problem = rig:post("/runs/" .. run_id .. "/suspend")
    assert.same({ 400, "VALIDATION_ERROR", "only running runs can be suspended (current status: suspended)" },
      { status, problem.errorCode, problem.message })
    status, run = rig:post("/runs/" .. run_id .. "/resume")
    assert.same({ 200, "running" }, { status, run.status })
    rig:propose(session_id, "p1") -- the stream stayed subscribed
    eventually(function()
      local seen = types(rig, run_id)
      return seen[#seen] == "proposal.created" or table.concat(seen, " "):find("proposal.created", 1, true)
    end)
    local told = table.concat(types(rig, run_id), " ")
    assert.truthy(told:find("run.suspended.*run.resumed"))
    assert.equal(select(2, told:gsub("run%.suspended", "")), 1)
    local events = {}
    for i, row in ipairs(rig:rows([[select event from webhook_deliveries where run_id = $1 order by created_at]],
      run_id)) do events[i] = row.event end
    assert.same({ "run.started", "run.suspended", "run.resumed" }, events)
    local entry = audited(rig, run_id, "run.suspended")[1]
    assert.same({ "run", "r-1" }, { entry.resource, entry.request_id })
    assert.equal(1, #audited(rig, run_id, "run.resumed"))
    rig:rows("delete from webhooks")
  end)

  -- The session ends after the runtime has agreed to a change, and before the plane hears that it did.
  local function end_before_answer(plane, call, session_id)
    local real = plane.client[call]
    plane.client[call] = function(...)
      local ack, err = real(...)
      assert(ack, err and err.message)
      assert(rig.runtime:call("boss", "CancelSession", { session_id = session_id, reason = "enough" }).ack.ok)
      eventually(function()
        return rig:rows("select status from runs where runtime_session_id = $1", session_id)[1].status == "cancelled"
      end, 20000, "the end")
      return ack
    end
    return function() plane.client[call] = nil end
  end

  for _, where in ipairs({ "the plane that observes it", "another plane" }) do
    for action, case in pairs({ suspend = { "suspend_session", "suspended" },
      resume = { "resume_session", "running" } }) do
      local call, to = unpack(case)
      it("answers that an ended run cannot become " .. to .. ", when " .. action .. " is asked of " .. where, function()
        local run_id, session_id = running(rig)
        if action == "resume" then assert.equal(200, (rig:post("/runs/" .. run_id .. "/suspend"))) end
        local owner = rig.plane
        if where == "another plane" then rig.plane = rig:start_plane() end
        local restore = end_before_answer(rig.plane, call, session_id)
        local status, problem = rig:post("/runs/" .. run_id .. "/" .. action)
        restore()
        if rig.plane ~= owner then rig.plane:close() end
        rig.plane = owner
        assert.same({ 409, "INVALID_STATE_TRANSITION", { from = "cancelled", to = to },
          "run " .. run_id .. " is cancelled and cannot become " .. to },
          { status, problem.errorCode, problem.metadata, problem.message })
        assert.equal("cancelled", select(2, rig:get("/runs/" .. run_id)).status)
        assert.equal(0, #audited(rig, run_id, "run." .. (action == "resume" and "resumed" or "suspended")))
      end)
    end
  end

  it("P35: cancels through the runtime by delegation, and the session is over there too", function()
    local descriptor = plane_rig.descriptor(crypto.uuid4())
    local session_id = descriptor.session.sessionId
    descriptor.session.metadata = { cancellationDelegated = true }
    local run_id = select(2, rig:post("/runs", descriptor)).runId
    rig:open_session(session_id)
    rig:await(run_id, "running")
    local status, run = rig:post("/runs/" .. run_id .. "/cancel", { reason = "enough" })
    assert.same({ 200, "cancelled" }, { status, run.status })
    local metadata = assert(rig.runtime:call("boss", "GetSession", { session_id = session_id })).metadata
    assert.equal(lifecycle.CANCELLED, metadata.state)
  end)

  it("cancels a run that was discovered, because the runtime lets it", function()
    local id = crypto.uuid4()
    rig:open_session(id)
    rig:await(id, "running")
    local status, run = rig:post("/runs/" .. id .. "/cancel", { reason = "enough" })
    assert.same({ 200, "cancelled" }, { status, run.status })
    local metadata = assert(rig.runtime:call("boss", "GetSession", { session_id = id })).metadata
    assert.equal(lifecycle.CANCELLED, metadata.state)
    assert.equal(1, #audited(rig, id, "run.cancelled"))
  end)
end)

describe("a plane in the runtime's process", function()
  it("cancels a run that was discovered", function()
    system.with(nil, function(world)
      local id = crypto.uuid4()
      assert(world:client():send("boss", client.start_envelope(id)).ok)
      eventually(function()
        local status, run = world:get("/runs/" .. id)
        return status == 200 and run.status == "running"
      end, 20000, "the run")
      local status, run = world:request("POST", "/runs/" .. id .. "/cancel", { reason = "enough" })
      assert.same({ 200, "cancelled" }, { status, run.status })
      local metadata = assert(world:client():call("boss", "GetSession", { session_id = id })).metadata
      assert.equal(lifecycle.CANCELLED, metadata.state)
      status, run = world:request("POST", "/runs/" .. id .. "/cancel")
      assert.same({ 200, "cancelled" }, { status, run.status })
      world:stop()
    end)
  end)
end)

describe("a run", function()
  local rig

  setup(function() rig = plane_rig.start() end)
  teardown(function() rig:destroy() end)

  it("stays as it is when the runtime refuses to suspend it", function()
    local run_id = running(rig)
    local status, problem = rig:post("/runs/" .. run_id .. "/suspend")
    assert.same({ 403, "FORBIDDEN" }, { status, problem.errorCode })
    assert.equal("running", select(2, rig:get("/runs/" .. run_id)).status)
    assert.equal(0, #audited(rig, run_id, "run.suspended"))
  end)

  it("that was discovered is not cancelled against the runtime's will, unless that is asked for", function()
    local id = crypto.uuid4()
    rig:open_session(id)
    rig:await(id, "running")
    local status, problem = rig:post("/runs/" .. id .. "/cancel")
    assert.same({ 400, "VALIDATION_ERROR", "run " .. id .. " has no cancelCallback and the policy of its session does "
      .. "not let the control plane cancel it" }, { status, problem.errorCode, problem.message })
    assert.equal("running", select(2, rig:get("/runs/" .. id)).status)
    local run
    status, run = rig:post("/runs/" .. id .. "/cancel?force=true")
    assert.same({ 200, "cancelled" }, { status, run.status })
    local metadata = assert(rig.runtime:call("boss", "GetSession", { session_id = id })).metadata
    assert.equal(lifecycle.OPEN, metadata.state)
  end)

  it("is not resumed while it runs, nor suspended before or after", function()
    local run_id = running(rig)
    local status, problem = rig:post("/runs/" .. run_id .. "/resume")
    assert.same({ 400, "VALIDATION_ERROR", "only suspended runs can be resumed (current status: running)" },
      { status, problem.errorCode, problem.message })
    for _, case in ipairs({ { rig:announce(), "starting" }, { rig:finished_run(), "completed" } }) do
      status, problem = rig:post("/runs/" .. case[1] .. "/suspend")
      assert.same({ 400, "VALIDATION_ERROR" }, { status, problem.errorCode })
      assert.truthy(problem.message:find("only running runs can be suspended (current status: ", 1, true))
    end
  end)

  it("is cloned: the same request with a session, a key and tags of its own", function()
    local session = plane_rig.descriptor(crypto.uuid4()).session
    session.metadata = { environment = "prod", cancelCallback = { url = "http://127.0.0.1:9/x", bearer = "s3cret" } }
    local run_id = rig:announce({ session = session, execution = { idempotencyKey = crypto.uuid4(),
      tags = { "a", "b" } } })
    local status, clone = rig:post("/runs/" .. run_id .. "/clone")
    assert.same({ 202, "queued" }, { status, clone.status })
    assert.not_equal(run_id, clone.runId)
    assert.not_equal(session.sessionId, clone.sessionId)
    local _, record = rig:get("/runs/" .. clone.runId)
    assert.same({ { "a", "b" }, json.null, "prod", clone.sessionId },
      { record.tags, record.idempotencyKey, record.metadata.environment, record.runtimeSessionId })
    local stored = rig:rows("select cancel_callback from runs where id = $1", clone.runId)[1].cancel_callback
    assert.equal("s3cret", json.decode(stored).bearer) -- W30: kept where it is needed, shown nowhere
    assert.is_nil(json.encode(record):find("s3cret", 1, true))
    local _, tagged = rig:post("/runs/" .. run_id .. "/clone", { tags = { "c" }, context = json.object({}) })
    assert.same({ "c" }, select(2, rig:get("/runs/" .. tagged.runId)).tags)
    assert.same({ "a", "b" }, select(2, rig:get("/runs/" .. run_id)).tags)
    assert.equal(1, #audited(rig, clone.runId, "run.cloned"))
    rig:open_session(clone.sessionId)
    rig:await(clone.runId, "running")
  end)

  it("found by discovery is cloned as well", function()
    local session_id = crypto.uuid4()
    rig:play(session_id)
    rig:await(session_id, "completed")
    local status, clone = rig:post("/runs/" .. session_id .. "/clone")
    assert.equal(202, status)
    assert.not_equal(session_id, clone.runId)
  end)

  it("is not cloned with a context, or without a stored request", function()
    local run_id = rig:announce()
    local status, problem = rig:post("/runs/" .. run_id .. "/clone", { context = { a = 1 } })
    assert.same({ 400, "VALIDATION_ERROR",
      "context is not supported: a session's context is given by whoever starts the session" },
      { status, problem.errorCode, problem.message })
    rig:rows("update runs set metadata = '{}' where id = $1", run_id)
    status, problem = rig:post("/runs/" .. run_id .. "/clone")
    assert.same({ 400, "VALIDATION_ERROR", "run " .. run_id .. " has no stored request to clone" },
      { status, problem.errorCode, problem.message })
    status, problem = rig:post("/runs/" .. run_id .. "/clone", { kickoff = {} })
    assert.same({ 400, { "property kickoff should not exist" } }, { status, problem.message })
  end)

  it("P2: is created and cloned once per Idempotency-Key header, and the key serves one request only", function()
    local key = crypto.uuid4()
    local headers = { ["idempotency-key"] = key }
    local body = plane_rig.descriptor(crypto.uuid4())
    local status, first = rig:post("/runs", body, headers)
    assert.equal(202, status)
    local again, second, told = rig:post("/runs", body, headers)
    assert.same({ 200, first.runId, first.sessionId, "true" },
      { again, second.runId, second.sessionId, told["idempotent-replayed"] })
    rig:open_session(first.sessionId)
    rig:await(first.runId, "running") -- a healthy run stays what it is, however often it is asked for
    again, second = rig:post("/runs", body, headers)
    assert.same({ 200, first.runId, first.sessionId, "running" }, { again, second.runId, second.sessionId,
      second.status })
    assert.equal(1, #rig:rows("select from runs where runtime_session_id = $1", first.sessionId))
    assert.equal("running", select(2, rig:get("/runs/" .. first.runId)).status)
    body.execution = { idempotencyKey = key } -- the same key, named in the body
    again, second = rig:post("/runs", body)
    assert.same({ 200, first.runId }, { again, second.runId })
    assert.equal(key, select(2, rig:get("/runs/" .. first.runId)).idempotencyKey)
    body.session.ttlMs = 71000
    local problem
    status, problem = rig:post("/runs", body, headers)
    assert.same({ 409, "CONFLICT", "idempotency key was used for a different request", first.runId },
      { status, problem.errorCode, problem.message, problem.metadata.runId })
    status, problem = rig:post("/runs", body, { ["idempotency-key"] = "other" })
    assert.same({ 400, "VALIDATION_ERROR", "Idempotency-Key and execution.idempotencyKey must be equal" },
      { status, problem.errorCode, problem.message })
    status, problem = rig:post("/runs", body, { ["idempotency-key"] = ("k"):rep(256) })
    assert.same({ 400, "VALIDATION_ERROR", "Idempotency-Key must be a text of 1 to 255 bytes" },
      { status, problem.errorCode, problem.message })
    local path, clone_key = "/runs/" .. first.runId .. "/clone", { ["idempotency-key"] = crypto.uuid4() }
    local _, clone = rig:post(path, {}, clone_key)
    again, second = rig:post(path, {}, clone_key)
    assert.same({ 200, clone.runId, clone.sessionId }, { again, second.runId, second.sessionId })
    assert.equal(1, #audited(rig, clone.runId, "run.cloned"))
    status, problem = rig:post(path, { tags = { "x" } }, clone_key)
    assert.same({ 409, "CONFLICT" }, { status, problem.errorCode })
    local document = select(2, rig:get("/docs-json"))
    local parameter = document.paths["/runs"].post.parameters[1]
    assert.same({ "Idempotency-Key", "header", false }, { parameter.name, parameter["in"], parameter.required })
  end)

  it("is archived and taken back, in any status", function()
    local run_id = rig:announce({ execution = { tags = { "mine" } } })
    local status, run = rig:request("POST", "/runs/" .. run_id .. "/archive", "")
    assert.equal(200, status)
    assert.same({ "mine", "archived" }, run.tags)
    assert.truthy(run.archivedAt:find("^%d+%-%d+%-%d+T.*Z$"))
    local _, again = rig:post("/runs/" .. run_id .. "/archive")
    assert.same({ run.tags, run.archivedAt }, { again.tags, again.archivedAt })
    local function listed(query)
      local _, page = rig:get("/runs?search=" .. run_id .. query)
      return page.total
    end
    assert.same({ 0, 1 }, { listed(""), listed("&includeArchived=true") })
    status, run = rig:post("/runs/" .. run_id .. "/unarchive")
    assert.same({ 200, { "mine" }, json.null }, { status, run.tags, run.archivedAt })
    assert.equal(1, listed(""))
    assert.same({ 2, 1 }, { #audited(rig, run_id, "run.archived"), #audited(rig, run_id, "run.unarchived") })
  end)

  it("is deleted with all that belongs to it once it has ended, and only then", function()
    local live = rig:announce()
    local status, problem = rig:request("DELETE", "/runs/" .. live)
    assert.same({ 400, "VALIDATION_ERROR", "only terminal runs (completed, failed, cancelled) can be deleted" },
      { status, problem.errorCode, problem.message })
    assert.equal(200, (rig:get("/runs/" .. live)))
    local run_id, other = rig:finished_run(), rig:finished_run()
    local body
    status, body = rig:request("DELETE", "/runs/" .. run_id)
    assert.same({ 204 }, { status, body })
    assert.equal(404, (rig:get("/runs/" .. run_id)))
    for _, row in ipairs(rig:rows([[select table_name from information_schema.columns
      where table_schema = 'public' and column_name = 'run_id' and table_name <> 'webhook_deliveries']])) do
      local count = "select count(*) as n from " .. row.table_name .. " where run_id = $1"
      assert.equal(0, rig:rows(count, run_id)[1].n, row.table_name)
    end
    assert.is_true(#rig:events(other) > 10)
    assert.equal(1, #audited(rig, run_id, "run.deleted"))
    assert.equal(404, (rig:request("DELETE", "/runs/" .. run_id)))
    assert.equal(1, #audited(rig, run_id, "run.deleted"))
  end)

  it("must exist and have a UUID for everything that is done to it", function()
    for _, call in ipairs({ "POST suspend", "POST resume", "POST clone", "POST archive", "POST unarchive",
      "DELETE " }) do
      local method, name = call:match("^(%u+) (%l*)$")
      local id = crypto.uuid4()
      local tail = name ~= "" and "/" .. name or ""
      local status, problem = rig:request(method, "/runs/" .. id .. tail)
      assert.same({ 404, "RUN_NOT_FOUND", "run " .. id .. " not found" },
        { status, problem.errorCode, problem.message }, call)
      status, problem = rig:request(method, "/runs/seven" .. tail)
      assert.same({ 400, "VALIDATION_ERROR", "Validation failed (uuid is expected)" },
        { status, problem.errorCode, problem.message }, call)
      if method == "POST" then
        status, problem = rig:post("/runs/" .. id .. tail, { bogus = 1 })
        assert.same({ 400, { "property bogus should not exist" } }, { status, problem.message }, call)
      end
    end
  end)

  it("takes no messages: those endpoints are gone, whatever the run", function()
    for _, name in ipairs({ "messages", "signal", "context" }) do
      local status, problem = rig:post("/runs/" .. crypto.uuid4() .. "/" .. name, { from = "x" })
      assert.same({ 410, "ENDPOINT_REMOVED", "Gone" }, { status, problem.errorCode, problem.error })
      assert.truthy(problem.message:find("POST /runs/:id/" .. name, 1, true))
      assert.truthy(problem.message:find("macp-sdk", 1, true))
      assert.equal(400, (rig:post("/runs/seven/" .. name)))
    end
  end)
end)
