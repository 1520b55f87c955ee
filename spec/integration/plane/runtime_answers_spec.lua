-- What becomes of a run by what the runtime says of its session, and when it says nothing any more.

local crypto = require("host.crypto")
local rpc = require("host.rpc")
local sys = require("host.sys")

local json = require("macp.core.json")
local messages = require("macp.protocol.messages")

local eventually = require("spec.support.eventually")
local odd = require("spec.support.odd_runtime")
local plane_rig = require("spec.support.plane_rig")

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

local function start(env)
  local runtime = odd.start()
  local all = { RUNTIME_CIRCUIT_BREAKER_THRESHOLD = "1000" }
  for name, value in pairs(env or {}) do all[name] = value end
  return runtime, plane_rig.start({ address = runtime.address, env = all })
end

describe("a run", function()
  local runtime, rig

  setup(function() runtime, rig = start() end)
  teardown(function()
    rig:destroy()
    runtime:close()
  end)
  before_each(function() runtime.answers = {} end)

  local function types_of(run_id)
    local types = {}
    for i, event in ipairs(rig:events(run_id)) do types[i] = event.type end
    return table.concat(types, " ")
  end

  -- Announces a run of a session that the runtime tells of like this.
  local function told(changes)
    local run_id, id = rig:announce()
    runtime:stream(function() return { odd.frame(odd.start_envelope(id)), odd.frame(odd.envelope(id, 1)) } end)
    runtime:know(odd.metadata(id, changes))
    return run_id, id
  end

  for words, code in pairs({
    ["UNKNOWN_POLICY_VERSION: policy.nowhere"] = "UNKNOWN_POLICY_VERSION", ["denied: POLICY_DENIED"] = "POLICY_DENIED",
    ["INVALID_POLICY_DEFINITION in rules"] = "INVALID_POLICY_DEFINITION",
    ["SESSION_ALREADY_EXISTS"] = "SESSION_ALREADY_EXISTS", ["SessionAlreadyExists: x"] = "SESSION_ALREADY_EXISTS",
    ["something else"] = "CONFLICT",
  }) do
    it("fails with " .. code .. " when the runtime says: " .. words, function()
      runtime.answers.GetSession = function(call) call:fail(rpc.status.FAILED_PRECONDITION, words) end
      local run = rig:await((rig:announce()), "failed", 10000)
      assert.same({ code, words }, { run.errorCode, run.errorMessage })
    end)
  end

  it("whose session expired before it was seen fails without being bound", function()
    local run_id = told({ state = "SESSION_STATE_EXPIRED" })
    assert.equal("SESSION_EXPIRED", rig:await(run_id, "failed", 10000).errorCode)
    assert.equal("run.created run.started run.failed", types_of(run_id))
  end)

  for state, status in pairs({ RESOLVED = "completed", CANCELLED = "cancelled" }) do
    it("whose session was " .. state .. " before it was seen has its history and is " .. status, function()
      local run_id, id = told({ state = "SESSION_STATE_" .. state,
        participant_activity = { { participant_id = "ann", message_count = 1 } } })
      local run = rig:await(run_id, status, 10000)
      assert.same({ id, json.null }, { run.runtimeSessionId, run.errorCode })
      local types = types_of(run_id)
      assert.truthy(types:find("^run.created run.started session.bound participant.seen participant.seen "), types)
      assert.truthy(types:find("message.received.* message.received.* session.state.changed run." .. status), types)
    end)
  end

  it("whose session is suspended when it is seen is bound, runs and is suspended", function()
    local run_id = told({ state = "SESSION_STATE_SUSPENDED", policy_version = "" })
    rig:await(run_id, "suspended", 10000)
    assert.truthy(types_of(run_id):find("session.bound .*run.suspended"))
    local row = rig:rows([[select policy_version, initiator_participant_id as initiator, session_state
      from runtime_sessions where run_id = $1]], run_id)[1]
    assert.same({ "policy.default", "boss" }, { row.policy_version, row.initiator })
  end)

  local function stream_statuses(run_id)
    local statuses, refused = {}, 0
    for _, event in ipairs(rig:events(run_id)) do
      if event.type == "session.stream.opened" then statuses[#statuses + 1] = event.data.status end
      if event.type == "message.send_failed" then refused = refused + 1 end
    end
    return table.concat(statuses, " "), refused
  end

  local function inline(call, code, message)
    call:write(odd.encode("macp.v1.StreamSessionResponse", { error = { code = code, message = message } }))
  end

  -- A run whose streams are answered like this five times and then told its history.
  local function refused_at_first(answer)
    local run_id, id = rig:announce()
    local streams = 0
    runtime.answers.StreamSession = function(call)
      streams = streams + 1
      local after = tonumber(odd.decode_subscribe(call:read()).after_sequence) or 0
      if streams <= 5 then return answer(call, id, after) end
      for n = after + 1, 2 do call:write(odd.frame(odd.envelope(id, n))) end
      call:wait_closed()
    end
    runtime:know(odd.metadata(id))
    return run_id
  end

  it("P5: is subscribed again after a refusal that leaves the stream open, and tells of it once", function()
    local run_id = refused_at_first(function(call)
      inline(call, "RATE_LIMITED", "not now")
      call:wait_closed()
    end)
    eventually(function() return types_of(run_id):find("message.received.*message.received") end, 10000, "the history")
    assert.same({ "opened reconnecting opened", 1 }, { stream_statuses(run_id) })
  end)

  it("P5: is one outage as long as streams are refused by status", function()
    local run_id = refused_at_first(function(call) call:fail(rpc.status.RESOURCE_EXHAUSTED, "not now") end)
    eventually(function() return types_of(run_id):find("message.received.*message.received") end, 10000, "the history")
    assert.same({ "opened reconnecting opened", 0 }, { stream_statuses(run_id) })
  end)

  it("P5: is told to be observed again when its session says nothing", function()
    local run_id, id = rig:announce()
    runtime.answers.StreamSession = function(call, count)
      call:read()
      if count == 1 then call:write(odd.frame(odd.start_envelope(id))) else call:wait_closed() end
      if count == 1 then call:finish(rpc.status.OK) end
    end
    runtime.calls.StreamSession = 0
    runtime:know(odd.metadata(id))
    eventually(function() return stream_statuses(run_id) == "opened reconnecting opened" end, 10000, "opened again")
  end)

  it("fails when it may not be observed, in whatever words that is told", function()
    for _, code in ipairs({ "FORBIDDEN", "Forbidden" }) do
      local run_id = refused_at_first(function(call)
        inline(call, code, code == "FORBIDDEN" and "not yours" or "")
        call:wait_closed()
      end)
      assert.equal("FORBIDDEN", rig:await(run_id, "failed", 10000).errorCode)
    end
  end)

  it("goes on after dropped history that is told in words instead of a code", function()
    local run_id, id = rig:announce()
    runtime.answers.StreamSession = function(call)
      local after = tonumber(odd.decode_subscribe(call:read()).after_sequence) or 0
      if after < 40 then inline(call, "history is compacted; after_sequence must be at least 40", "")
      else call:write(odd.frame(odd.envelope(id, after + 1))) end
      call:wait_closed()
    end
    runtime:know(odd.metadata(id))
    eventually(function() return types_of(run_id):find("message.received", 1, true) end, 10000, "what is left")
    assert.equal("opened gap", (stream_statuses(run_id)))
  end)

  it("tells the reasons that a refusal by status carries", function()
    local session = plane_rig.descriptor(nil).session
    session.sessionId, session.metadata = crypto.uuid4(), { cancellationDelegated = true }
    local _, accepted = rig:post("/runs", plane_rig.descriptor(nil, { session = session }))
    runtime:stream(function() return { odd.frame(odd.start_envelope(session.sessionId)) } end)
    runtime:know(odd.metadata(session.sessionId))
    rig:await(accepted.runId, "running", 10000)
    runtime.answers.CancelSession = function(call)
      call:fail(rpc.status.PERMISSION_DENIED, "not yours",
        { ["macp-error-details-bin"] = '{"reasons":["only boss may cancel"]}' })
    end
    local status, problem = rig:post("/runs/" .. accepted.runId .. "/cancel")
    assert.same({ 403, "FORBIDDEN", "not yours", { grpcCode = 7, reasons = { "only boss may cancel" } } },
      { status, problem.errorCode, problem.message, problem.metadata })
    runtime.answers.CancelSession = function(call)
      call:fail(rpc.status.PERMISSION_DENIED, "not yours", { ["macp-error-details-bin"] = "no JSON" })
    end
    assert.same({ grpcCode = 7 }, select(2, rig:post("/runs/" .. accepted.runId .. "/cancel")).metadata)
  end)
end)

describe("a plane", function()
  local runtime, rig

  setup(function() runtime, rig = start() end)
  teardown(function()
    rig:destroy()
    runtime:close()
  end)

  it("introduces itself with what it can do, and says who it is in every call", function()
    local hello, authorization
    runtime.answers.Initialize = function(call)
      authorization = call:header("authorization")
      hello = call:decode(messages.codec("macp.v1.InitializeRequest"))
      call:reply(odd.encode("macp.v1.InitializeResponse", { selected_protocol_version = "1.0" }))
    end
    assert.equal(200, (rig:post("/runs/validate", plane_rig.descriptor(crypto.uuid4()))))
    assert.equal("Bearer plane", authorization)
    assert.same({ "1.0" }, hello.supported_protocol_versions)
    local client = hello.client_info
    assert.same({ "macp-control-plane", "macp-control-plane", "test" }, { client.name, client.title, client.version })
    local has = hello.capabilities
    assert.same({ true, true, true, true, true, true, true, true }, { has.sessions.stream,
      has.cancellation.cancel_session, has.progress.progress, has.manifest.get_manifest, has.mode_registry.list_modes,
      has.roots.list_roots, has.policy_registry.register_policy, has.policy_registry.list_policies })
    for _, name in ipairs({ "mode_registry", "roots", "policy_registry" }) do
      assert.is_false(has[name].list_changed or false)
    end
  end)

  it("takes what is told beside sessions for the run that it names, and lets the rest go", function()
    local run_id, id = rig:announce()
    runtime:stream(function() return { odd.frame(odd.start_envelope(id)) } end)
    runtime:know(odd.metadata(id))
    rig:await(run_id, "running")
    local function ambient(n, changes)
      local all = { mode = "", session_id = "", message_type = "Signal", sender = "cy", message_id = "signal-" .. n,
        payload = odd.encode("macp.v1.SignalPayload", { signal_type = "s" .. n }) }
      for name, value in pairs(changes) do all[name] = value end
      return odd.encode("macp.v1.WatchSignalsResponse", { envelope = odd.envelope("", n, all) })
    end
    local function correlated(n, session_id)
      return { payload = odd.encode("macp.v1.SignalPayload",
        { signal_type = "s" .. n, correlation_session_id = session_id }) }
    end
    local told = {
      ambient(1, {}), ambient(2, correlated(2, crypto.uuid4())), ambient(3, { session_id = crypto.uuid4() }),
      ambient(4, { payload = "\255\255\255" }), "\255\255\255garbage",
      ambient(5, { session_id = id }), ambient(6, correlated(6, id)),
      ambient(7, { message_type = "Progress", session_id = id,
        payload = odd.encode("macp.v1.ProgressPayload", { progress = 1, total = 2 }) }),
    }
    runtime.answers.WatchSignals = function(call)
      for _, frame in ipairs(told) do call:write(frame) end
      call:wait_closed()
    end
    eventually(function() return rig.plane.signals.stream end, 10000, "a watch")
    rig.plane.signals.stream:cancel()
    local function received()
      local ids = {}
      for _, event in ipairs(rig:events(run_id)) do
        if event.data.messageId then ids[event.data.messageId] = true end
      end
      return ids
    end
    eventually(function() return received()["signal-7"], json.encode(received()) end, 10000, "the last one")
    assert.same({ m0 = true, ["signal-5"] = true, ["signal-6"] = true, ["signal-7"] = true }, received())
  end)
end)

describe("a session whose time is over while the runtime is away", function()
  it("fails its run, also when nobody is asked any more", function()
    -- The first failure opens the breaker, for longer than the spec lasts.
    local runtime, rig = start({ RUNTIME_CIRCUIT_BREAKER_THRESHOLD = "1",
      RUNTIME_CIRCUIT_BREAKER_RESET_MS = "3600000", SESSION_DISCOVERY_ENABLED = "false" })
    local run_id, id = rig:announce()
    runtime:stream(function() return { odd.frame(odd.start_envelope(id)) } end)
    runtime:know(odd.metadata(id, { expires_at_unix_ms = sys.now_ms() + 3600000 }))
    rig:await(run_id, "running", 10000)
    local session = rig.plane.owner:of_session(id).session
    runtime:close()
    eventually(function() return rig.plane.client.breaker:state() == "OPEN" end, 10000, "OPEN")
    assert.equal("running", select(2, rig:get("/runs/" .. run_id)).status)
    session.expires_ms = sys.now_ms() - 59000 -- a minute is left to come back
    local run = rig:await(run_id, "failed", 10000)
    assert.same({ "RUNTIME_UNAVAILABLE", "the session's time is over and the runtime is not reachable" },
      { run.errorCode, run.errorMessage })
    rig:destroy()
  end)
end)
