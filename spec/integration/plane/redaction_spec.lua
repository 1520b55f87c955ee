-- W43: what is redacted is found nowhere that is served or stored of signals, and not in the events of a session.

local crypto = require("host.crypto")

local json = require("macp.core.json")

local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")
local runtime = require("spec.support.runtime_client")

local SECRET = "sk-abcdefghijklmnop1234"

local TOKENS = [=[[{"token":"boss","sender":"boss"},{"token":"ann","sender":"ann"},{"token":"bob","sender":"bob"},
  {"token":"plane","sender":"plane","is_observer":true,"can_manage_mode_registry":true}]]=]

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

describe("W43: a redacted text", function()
  local rig

  setup(function()
    rig = plane_rig.start({ env = { MACP_REDACT_PRESETS = "api_keys" },
      runtime_env = { MACP_AUTH_TOKENS_JSON = TOKENS } })
  end)
  teardown(function() rig:destroy() end)

  it("P43: is in no event, no projection, no mode view and no stored signal", function()
    local id = crypto.uuid4()
    rig:open_session(id)
    rig:await(id, "running")
    rig:propose(id, "p1", "use " .. SECRET)
    local call = json.encode({ model = "m", prompt = "with " .. SECRET, tokenUsage = { promptTokens = 5 } })
    local ack = rig.runtime:send("ann", runtime.envelope({ mode = "", message_type = "Signal",
      message_id = crypto.uuid4(), session_id = "", payload = runtime.payload("macp.v1.SignalPayload", {
        signal_type = "llm.call.completed", data = call, correlation_session_id = id }) }))
    assert(ack.ok, ack.error and ack.error.message)
    eventually(function()
      local _, state = rig:get("/runs/" .. id .. "/state")
      return state.llm.totals.callCount == 1 and state.decision.current
    end, 5000, "both arrive")
    local encoded = crypto.base64_encode(call)
    local served = {}
    local _, bundle = rig:get("/runs/" .. id .. "/export?includeRaw=true")
    served[1] = json.encode(bundle)
    local shown = 0
    for _, row in ipairs(bundle.rawEvents) do
      local env = row.payload.envelope
      if env then
        local bytes = crypto.base64_decode(env.payloadBase64)
        assert.is_nil(bytes:find(SECRET, 1, true))
        if bytes:find("[REDACTED]", 1, true) and env.messageType == "Proposal" then
          assert.is_true(env.redacted)
          shown = shown + 1
        end
      end
    end
    assert.equal(1, shown)
    for _, path in ipairs({ "/state", "/events?limit=5000", "/replay/state" }) do
      local _, reply = rig:get("/runs/" .. id .. path)
      served[#served + 1] = json.encode(reply)
    end
    local text = table.concat(served)
    assert.is_nil(text:find(SECRET, 1, true))
    assert.is_nil(text:find(encoded, 1, true))
    assert.truthy(text:find("use [REDACTED]", 1, true))
    assert.truthy(text:find("with [REDACTED]", 1, true))
    local signals = rig:rows("select position($2::bytea in frame) as at from run_events_raw where run_id = $1 "
      .. "and kind = 'stream-signal'", id, SECRET)
    assert.equal(1, #signals)
    assert.equal(0, signals[1].at)
  end)

  -- A run whose request, artifact and names hold the secret, of a mode whose routes give what they were given.
  it("is not shown of a run's request, artifacts, audit entries, mode routes and dashboard", function()
    local id = crypto.uuid4()
    local body = plane_rig.descriptor(id, { execution = { tags = { "tag " .. SECRET },
      requester = { actorId = "with " .. SECRET } } })
    body.session.metadata = { note = "see " .. SECRET, scenarioRef = SECRET, sourceRef = SECRET, environment = SECRET }
    local _, accepted = rig:post("/runs", body)
    rig:open_session(id)
    rig:await(accepted.runId, "running")
    rig:propose(id, "p1", "use " .. SECRET)
    local run = "/runs/" .. accepted.runId
    local status, artifact = rig:post(run .. "/artifacts", { kind = "json", label = "of " .. SECRET,
      uri = "https://files.test/?key=" .. SECRET, inline = { deep = { key = SECRET } } })
    assert.same({ 201, "of [REDACTED]", "https://files.test/?key=[REDACTED]", { deep = { key = "[REDACTED]" } } },
      { status, artifact.label, artifact.uri, artifact.inline })
    eventually(function()
      local code, tally = rig:get(run .. "/mode/tally")
      return code == 200 and #tally.proposals == 1
    end, 5000, "the proposal")
    local policy = { policyId = "policy." .. SECRET, mode = "macp.mode.decision.v1", description = "",
      rules = { voting = { algorithm = "majority" } } }
    assert.equal(200, (rig:post("/runtime/policies", policy)))
    assert.equal(200, (rig:request("DELETE", "/runtime/policies/policy." .. SECRET)))
    local served, marked = {}, 0
    for _, path in ipairs({ run, run .. "/export?includeRaw=true", run .. "/export/stream", run .. "/artifacts",
      run .. "/traces", run .. "/messages", run .. "/mode/tally", run .. "/mode/proposals/p1",
      run .. "/mode/proposals/" .. SECRET, "/runs", "/dashboard/overview", "/audit", "/events" }) do
      local _, reply = rig:get(path)
      local text = json.encode(reply)
      assert.is_nil(text:find(SECRET, 1, true), path .. ": " .. text)
      if text:find("[REDACTED]", 1, true) then marked = marked + 1 end
      served[path] = reply
    end
    assert.is_true(marked >= 11, marked .. " replies show that something was left out")
    assert.same({ "see [REDACTED]", { "tag [REDACTED]" }, "[REDACTED]" }, {
      served[run].metadata.executionRequest.session.metadata.note, served[run].tags, served[run].sourceRef })
    local entry = served["/audit"].data[1]
    assert.same({ "policy.unregistered", "policy.[REDACTED]", "/runtime/policies/policy.[REDACTED]" },
      { entry.action, entry.resourceId, entry.details.path })
    assert.equal("use [REDACTED]", served[run .. "/mode/tally"].proposals[1].option)
    local stored = rig:rows([[select (select count(*) from run_artifacts a where a::text like $1)::int as artifacts,
      (select count(*) from audit_log a where a::text like $1)::int as entries]], "%" .. SECRET .. "%")
    assert.same({ artifacts = 0, entries = 0 }, stored[1])
    -- What is asked again is asked as it was.
    local _, clone = rig:post(run .. "/clone")
    assert.equal(1, #rig:rows("select 1 from runs where id = $1 and metadata::text like $2", clone.runId,
      "%see " .. SECRET .. "%"))
  end)
end)
