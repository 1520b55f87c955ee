-- Bad input: the right 4xx, naming the field and what is expected of it.

local crypto = require("host.crypto")

local json = require("macp.core.json")

local plane_rig = require("spec.support.plane_rig")

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

-- A descriptor changed by fn.
local function changed(fn)
  local body = plane_rig.descriptor(crypto.uuid4())
  fn(body)
  return body
end

local function has(messages, text)
  messages = type(messages) == "table" and messages or { messages }
  for _, message in ipairs(messages) do
    if tostring(message):find(text, 1, true) then return true end
  end
  return false, json.encode(messages)
end

local DESCRIPTORS = {
  { "no mode", function(b) b.mode = nil end, "mode" },
  { "a wrong mode", function(b) b.mode = "replay" end, "mode must be one of" },
  { "no runtime", function(b) b.runtime = nil end, "runtime" },
  { "an unknown runtime kind", function(b) b.runtime.kind = "cobol" end, "runtime.kind must be one of: grpc, rust",
    "warning" },
  { "no session", function(b) b.session = nil end, "session" },
  { "an empty mode name", function(b) b.session.modeName = " " end, "session.modeName should not be empty" },
  { "no mode version", function(b) b.session.modeVersion = nil end, "session.modeVersion" },
  { "a ttl of zero", function(b) b.session.ttlMs = 0 end, "session.ttlMs must be a positive number" },
  { "a ttl that is text", function(b) b.session.ttlMs = "60000" end, "session.ttlMs must be a positive number" },
  { "a ttl of years", function(b) b.session.ttlMs = 86400001 end, "session.ttlMs" },
  { "no participants", function(b) b.session.participants = json.array({}) end, "session.participants" },
  { "a participant without id", function(b) b.session.participants[1] = { id = "" } end,
    "session.participants.0.id should not be empty" },
  { "two participants with one id", function(b) b.session.participants[2] = { id = "ann" } end,
    "session.participants" },
  { "an unknown field", function(b) b.session.kickoff = {} end, "property session.kickoff should not exist" },
  { "a removed field", function(b) b.session.participants[1].role = "voter" end,
    "property session.participants.0.role should not exist" },
  { "a callback that is no URL", function(b) b.session.metadata = { cancelCallback = { url = "ftp://x/y" } } end,
    "session.metadata.cancelCallback.url must be a URL address" },
  { "a callback whose credential no header holds", function(b)
    b.session.metadata = { cancelCallback = { url = "http://x/y", bearer = "a\r\nX-B: c" } }
  end, "session.metadata.cancelCallback.bearer must not contain control characters" },
  { "delegation that is text", function(b) b.session.metadata = { cancellationDelegated = "false" } end,
    "session.metadata.cancellationDelegated must be a boolean value" },
  { "a key that is too long", function(b) b.execution = { idempotencyKey = ("k"):rep(256) } end,
    "execution.idempotencyKey" },
  { "tags that are no texts", function(b) b.execution = { tags = { 1 } } end, "execution.tags.0 must be a string" },
  { "a requester of no kind", function(b) b.execution = { requester = { actorType = "robot" } } end,
    "execution.requester.actorType must be one of" },
  { "text that no database holds", function(b) b.execution = { tags = { "a\0b" } } end, "must not contain NUL" },
}

local QUERIES = {
  { "/runs?limit=0", "limit" }, { "/runs?limit=201", "limit" }, { "/runs?limit=ten", "limit" },
  { "/runs?offset=-1", "offset" }, { "/runs?status=lost", "status" }, { "/runs?sortBy=name", "sortBy" },
  { "/runs?sortOrder=up", "sortOrder" }, { "/runs?createdAfter=yesterday", "createdAfter" },
  { "/runs/ID/events?afterSeq=-1", "afterSeq" }, { "/runs/ID/events?limit=0", "limit" },
  { "/runs/ID/events?limit=5001", "limit" }, { "/runs/ID/events?afterTs=soon", "afterTs" },
  { "/runs/ID/stream?heartbeatMs=10", "heartbeatMs" }, { "/runs/ID/stream?afterSeq=x", "afterSeq" },
  { "/runs/ID/replay/stream?speed=0", "speed" }, { "/runs/ID/replay/stream?mode=slow", "mode" },
  { "/runs/ID/replay/state?seq=x", "seq" },
  -- W33: numbers that neither a double nor the database's bigint holds
  { "/runs?offset=9223372036854775808", "offset must not be greater than 9007199254740992" },
  { "/runs/ID/events?afterSeq=9223372036854775808", "afterSeq must not be greater than" },
  { "/runs/ID/messages?afterSeq=99999999999999999999", "afterSeq must not be greater than" },
  { "/runs/ID/stream?afterSeq=9223372036854775808", "afterSeq must not be greater than" },
  { "/runs/ID/replay/state?seq=9223372036854775808", "seq must not be greater than" },
  { "/runs/ID/replay/stream?fromSeq=9223372036854775808", "fromSeq must not be greater than" },
  { "/events?afterSeq=9223372036854775808", "afterSeq must not be greater than" },
}

local UNKNOWN = { "/runs/ID", "/runs/ID/state", "/runs/ID/events", "/runs/ID/stream", "/runs/ID/replay/stream",
  "/runs/ID/replay/state" }

describe("the plane refuses", function()
  local rig

  setup(function() rig = plane_rig.start() end)
  teardown(function() rig:destroy() end)

  for _, case in ipairs(DESCRIPTORS) do
    it("a descriptor with " .. case[1], function()
      for _, path in ipairs({ "/runs", "/runs/validate" }) do
        local status, problem = rig:post(path, changed(case[2]))
        if path == "/runs/validate" and status == 200 and case[4] == "warning" then
          assert.is_true(problem.valid)
          assert(has(problem.warnings, case[3]))
        elseif path == "/runs/validate" and status == 200 then
          assert.is_false(problem.valid)
          assert(has(problem.errors, case[3]))
        else
          assert.same({ 400, "VALIDATION_ERROR" }, { status, problem.errorCode })
          assert(has(problem.message, case[3]))
        end
      end
    end)
  end

  it("session ids that no runtime takes", function()
    for _, id in ipairs({ "", "short", "4F0F5C0E-6C1C-4C55-9A67-2F6D1F0B9A11", "4f0f5c0e-6c1c-1c55-9a67-2f6d1f0b9a11",
      ("x"):rep(256), "with space in it, which is long enough" }) do
      local status, problem = rig:post("/runs", changed(function(b) b.session.sessionId = id end))
      assert.same({ 400, "INVALID_SESSION_ID" }, { status, problem.errorCode })
      assert.truthy(problem.message:find("session.sessionId must be", 1, true))
    end
  end)

  for _, case in ipairs(QUERIES) do
    it("the query of " .. case[1], function()
      local status, problem = rig:get((case[1]:gsub("ID", crypto.uuid4())))
      assert.same({ 400, "VALIDATION_ERROR" }, { status, problem.errorCode })
      assert(has(problem.message, case[2]))
    end)
  end

  it("runs that do not exist", function()
    for _, path in ipairs(UNKNOWN) do
      local id = crypto.uuid4()
      local status, problem = rig:get((path:gsub("ID", id)))
      assert.same({ 404, "RUN_NOT_FOUND", "run " .. id .. " not found" }, { status, problem.errorCode,
        problem.message })
    end
    local status, problem = rig:post("/runs/" .. crypto.uuid4() .. "/cancel")
    assert.same({ 404, "RUN_NOT_FOUND" }, { status, problem.errorCode })
    status = rig:post("/runs/" .. crypto.uuid4() .. "/replay")
    assert.equal(404, status)
  end)

  it("ids that are no UUID, before anything else", function()
    for _, path in ipairs(UNKNOWN) do
      local status, problem = rig:get((path:gsub("ID", "17")))
      assert.same({ 400, "Validation failed (uuid is expected)" }, { status, problem.message })
    end
  end)

  it("P18: fields that nobody knows, in every body and at every depth", function()
    local id = crypto.uuid4()
    local run, hook = "/runs/" .. id, { url = "https://example.org/", secret = ("s"):rep(16) }
    local function descriptor(part)
      return changed(function(b)
        b.execution = { tags = json.array({}) }
        local at = b
        for name in part:gmatch("[^.]+") do at = at[tonumber(name) and tonumber(name) + 1 or name] end
        at.colour = "red"
      end)
    end
    local cases = {
      { "POST", run .. "/replay", {} }, { "POST", run .. "/clone", {} }, { "POST", run .. "/cancel", {} },
      { "POST", run .. "/suspend", {} }, { "POST", run .. "/resume", {} },
      { "POST", "/runs/compare", { leftRunId = id, rightRunId = id } },
      { "POST", run .. "/artifacts", { kind = "log", label = "x" } },
      { "POST", "/runs/batch/cancel", { runIds = { id } } }, { "POST", "/webhooks", hook },
      { "PATCH", "/webhooks/" .. id, {} },
    }
    for _, case in ipairs(cases) do case[3].colour, case[4] = "red", "property colour should not exist" end
    for _, part in ipairs({ "", "runtime", "session", "session.participants.0", "execution" }) do
      for _, path in ipairs({ "/runs", "/runs/validate" }) do
        cases[#cases + 1] = { "POST", path, descriptor(part),
          "property " .. (part ~= "" and part .. "." or "") .. "colour should not exist" }
      end
    end
    for _, case in ipairs(cases) do
      local status, problem = rig:request(case[1], case[2], case[3])
      assert.same({ 400, "VALIDATION_ERROR", { case[4] } }, { status, problem.errorCode, problem.message }, case[2])
    end
  end)

  it("bodies that are no JSON, too large, or of another kind", function()
    local status, problem = rig:post("/runs", '{"mode":')
    assert.same({ 400, "VALIDATION_ERROR" }, { status, problem.errorCode })
    status = rig:request("POST", "/runs", "a=b", { ["content-type"] = "application/x-www-form-urlencoded" })
    assert.equal(415, status)
    status, problem = rig:post("/runs", ("x"):rep(1048577))
    assert.same({ 413, "PAYLOAD_TOO_LARGE" }, { status, problem.errorCode })
    status = rig:get("/healthz")
    assert.equal(200, status)
  end)

  it("a rollback to a revision it does not have", function()
    local status, problem = rig:post("/admin/modes/macp.mode.decision.v1/rollback", { revision = "sha256:none" })
    assert.is_true(status >= 400 and status < 500, tostring(status))
    assert.is_string(problem.message)
    status, problem = rig:post("/admin/modes/macp.mode.decision.v1/rollback", {})
    assert.equal(400, status)
    assert(has(problem.message, "revision"))
  end)
end)

describe("the plane with keys", function()
  local rig

  setup(function() rig = plane_rig.start({ env = { AUTH_API_KEYS = "first,second" } }) end)
  teardown(function() rig:destroy() end)

  it("asks for one everywhere but where the process is watched", function()
    for _, path in ipairs({ "/runs", "/runs/" .. crypto.uuid4(), "/runtime/modes", "/admin/modes" }) do
      local status, problem = rig:get(path)
      assert.same({ 401, "UNAUTHENTICATED", "Missing Authorization header" },
        { status, problem.errorCode, problem.message })
      status = rig:get(path, { authorization = "Bearer third" })
      assert.equal(401, status)
    end
    for _, path in ipairs({ "/healthz", "/metrics", "/docs-json" }) do assert.equal(200, (rig:get(path))) end
    assert.equal(200, (rig:get("/runs", { authorization = "Bearer second" })))
  end)
end)

describe("the plane tells", function()
  local rig

  setup(function() rig = plane_rig.start() end)
  teardown(function() rig:destroy() end)

  it("what the runtime says about itself", function()
    local status, manifest = rig:get("/runtime/manifest")
    assert.equal(200, status)
    assert.is_string(manifest.agentId)
    assert.is_true(#manifest.supportedModes > 0)
    local modes
    status, modes = rig:get("/runtime/modes")
    assert.equal(200, status)
    assert.equal("macp.mode.decision.v1", modes[1].mode)
    assert.same({ "Commitment" }, modes[1].terminalMessageTypes)
    local health
    status, health = rig:get("/runtime/health")
    assert.same({ 200, true, "rust" }, { status, health.ok, health.runtimeKind })
  end)

  it("whether it is well", function()
    local eventually = require("spec.support.eventually")
    local alive, told = rig:get("/healthz")
    assert.same({ 200, { ok = true, service = "macp-control-plane" } }, { alive, told })
    eventually(function() return rig:get("/readyz") == 200 end)
    local _, ready = rig:get("/readyz")
    assert.same({ "ok", "ok", "CLOSED", true },
      { ready.database, ready.streamConsumer, ready.circuitBreaker, ready.runtime.ok })
    local status, text = rig:get("/metrics")
    assert.equal(200, status)
    assert.truthy(text:find("# TYPE macp_events_persisted_total counter", 1, true))
  end)

  it("that the runtime is away, with 503", function()
    local eventually = require("spec.support.eventually")
    local lonely = plane_rig.start({ address = "127.0.0.1:1" })
    eventually(function() return select(2, lonely:get("/readyz")).runtime.detail ~= "not probed yet" end)
    local status, ready = lonely:get("/readyz")
    assert.same({ 503, false, false }, { status, ready.ok, ready.runtime.ok })
    local problem
    status, problem = lonely:get("/runtime/modes")
    assert.equal(503, status)
    assert.truthy(problem.errorCode == "RUNTIME_UNAVAILABLE" or problem.errorCode == "CIRCUIT_BREAKER_OPEN")
    local verdict
    status, verdict = lonely:post("/runs/validate", plane_rig.descriptor(crypto.uuid4()))
    assert.same({ 200, true, false }, { status, verdict.valid, verdict.runtime.reachable })
    assert.truthy(verdict.warnings[1]:find("Runtime not reachable", 1, true))
    lonely:destroy()
  end)

  it("which revisions of modes it serves", function()
    local status, modes = rig:get("/admin/modes")
    assert.equal(200, status)
    local ids = {}
    for _, mode in ipairs(modes.modes) do ids[mode.id or mode.mode or ""] = true end
    assert.is_true(ids["macp.mode.decision.v1"], json.encode(modes))
  end)

  it("lists by status, tag, time and text, with totals of the same selection", function()
    local tag = crypto.uuid4()
    local ids = {}
    for i = 1, 3 do
      local _, accepted = rig:post("/runs", changed(function(b)
        b.execution = { tags = { tag, "n" .. i } }
        b.session.metadata = { environment = "env-" .. tag, scenarioRef = "scene_" .. i .. "_" .. tag, source = "spec" }
        if i == 3 then b.mode = "sandbox" end
      end))
      ids[i] = accepted.runId
    end
    local function list(query)
      local status, page = rig:get("/runs?" .. query)
      assert.equal(200, status)
      local found = {}
      for i, run in ipairs(page.data) do found[i] = run.id end
      return found, page
    end
    local found, page = list("tags=" .. tag)
    assert.same({ ids[2], ids[1] }, found)
    assert.same({ 2, 50, 0 }, { page.total, page.limit, page.offset })
    assert.same({ ids[3], ids[2], ids[1] }, (list("includeSandbox=true&tags=" .. tag)))
    assert.same({ ids[1] }, (list("tags=n1,%20" .. tag)))
    assert.same({ ids[1], ids[2] }, (list("sortOrder=asc&environment=env-" .. tag)))
    assert.same({ ids[2] }, (list("limit=1&tags=" .. tag)))
    assert.same({ ids[1] }, (list("limit=1&offset=1&tags=" .. tag)))
    assert.same({ ids[1] }, (list("scenarioRef=scene_1_" .. tag)))
    assert.same({}, (list("scenarioRef=scene%25" .. tag)))
    assert.same({ ids[2] }, (list("search=" .. ids[2])))
    assert.same({}, (list("createdAfter=2100-01-01&tags=" .. tag)))
    assert.same({ ids[2], ids[1] }, (list("createdBefore=2100-01-01T00:00:00Z&tags=" .. tag)))
    assert.same({ "sandbox" }, (function()
      local _, run = rig:get("/runs/" .. ids[3])
      return { run.tags[3] }
    end)())
  end)

  it("tags runs of the sandbox as such, once", function()
    for _, tags in ipairs({ json.array({}), { "sandbox" } }) do
      local _, accepted = rig:post("/runs", changed(function(b) b.mode, b.execution = "sandbox", { tags = tags } end))
      assert.same({ "sandbox" }, select(2, rig:get("/runs/" .. accepted.runId)).tags)
    end
  end)

  it("pages of events by number, time and type", function()
    local id = crypto.uuid4()
    rig:play(id)
    rig:await(id, "completed")
    local all = rig:events(id)
    local _, some = rig:get("/runs/" .. id .. "/events?afterSeq=" .. all[3].seq .. "&limit=2")
    assert.same({ all[4].seq, all[5].seq }, { some[1].seq, some[2].seq })
    local _, page = rig:get("/runs/" .. id .. "/events?type=proposal.created,%20decision.finalized,")
    assert.same({ 2, 2, page.data[2].seq }, { page.total, #page.data, page.nextCursor })
    local _, later = rig:get("/runs/" .. id .. "/events?afterTs=" .. all[#all].ts)
    assert.equal(all[#all].seq, later.data[#later.data].seq)
    local _, earlier = rig:get("/runs/" .. id .. "/events?beforeTs=" .. all[1].ts)
    assert.same({ 0, 0 }, { earlier.total, #earlier.data })
  end)
end)
