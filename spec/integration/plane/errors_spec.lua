-- Every error code that a caller of the plane can get, provoked, with its exact body. Codes that only a run tells
-- (MODE_NOT_SUPPORTED, SESSION_EXPIRED, ...) are in runs_spec and recovery_spec.

local crypto = require("host.crypto")
local rpc = require("host.rpc")

local errors = require("macp.core.errors")
local json = require("macp.core.json")

local eventually = require("spec.support.eventually")
local odd = require("spec.support.odd_runtime")
local plane_rig = require("spec.support.plane_rig")
local raw = require("spec.support.raw_http")
local receiver = require("spec.support.receiver")

local REASONS = { [400] = "Bad Request", [401] = "Unauthorized", [403] = "Forbidden", [404] = "Not Found",
  [409] = "Conflict", [410] = "Gone", [413] = "Payload Too Large", [414] = "URI Too Long",
  [415] = "Unsupported Media Type", [417] = "Expectation Failed", [429] = "Too Many Requests",
  [431] = "Request Header Fields Too Large", [500] = "Internal Server Error", [501] = "Not Implemented",
  [502] = "Bad Gateway", [503] = "Service Unavailable", [504] = "Gateway Timeout" }
local SESSION_ID_RULE = "session.sessionId must be a lower-case UUID v4 or v7, or base64url of 22 to 255 "
  .. "characters"
local REMOVED = "POST /runs/:id/%s was removed: the control plane observes sessions and sends nothing into them. "
  .. "Agents send their own messages to the runtime with an SDK (macp-sdk); "
  .. "see the onboarding guide, examples/README.md."

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

local function problem(status, code, message, metadata)
  return { statusCode = status, errorCode = code, message = message, error = REASONS[status], metadata = metadata }
end

-- The answer is this problem, with the headers of every answer.
local function is_problem(expected, status, body, headers)
  assert.same({ expected.statusCode, expected }, { status, body })
  assert.equal("application/json; charset=utf-8", headers["content-type"])
  assert.truthy(headers["x-request-id"])
  assert.equal("http://localhost:3000", headers["access-control-allow-origin"])
end

describe("the plane answers", function()
  local rig, target, known

  setup(function()
    rig = plane_rig.start({ env = { OUTBOUND_ALLOW_PRIVATE = "true" } })
    target = receiver.start(function() return 500 end)
    known = crypto.uuid4()
    rig:open_session(known)
    rig:await(known, "running")
  end)
  teardown(function()
    target:close()
    rig:destroy()
  end)

  local function descriptor(changes)
    local body = plane_rig.descriptor(crypto.uuid4())
    for name, value in pairs(changes) do body.session[name] = value end
    return body
  end

  local UNKNOWN = crypto.uuid4()
  local CASES = {
    { "fields that are wrong: a list", "POST", "/runs/compare", { leftRunId = "x", more = 1 },
      problem(400, "VALIDATION_ERROR", { "leftRunId must be a UUID", "rightRunId must be a string",
        "property more should not exist" }) },
    { "an id that is none", "GET", "/runs/17", nil,
      problem(400, "VALIDATION_ERROR", "Validation failed (uuid is expected)") },
    { "a session id that is none", "POST", "/runs", function() return descriptor({ sessionId = "short" }) end,
      problem(400, "INVALID_SESSION_ID", SESSION_ID_RULE) },
    { "a policy that is wrong", "POST", "/runtime/policies",
      { policyId = "policy.default", mode = "*", description = "x", rules = {} },
      problem(400, "INVALID_POLICY_DEFINITION", "policyId: policy.default is reserved") },
    { "a run that is not there", "GET", "/runs/" .. UNKNOWN .. "/metrics", nil,
      problem(404, "RUN_NOT_FOUND", "run " .. UNKNOWN .. " not found") },
    { "a webhook that is not there", "GET", "/webhooks/" .. UNKNOWN, nil,
      problem(404, "NOT_FOUND", "webhook " .. UNKNOWN .. " not found") },
    { "a path that is not there", "GET", "/nothing", nil, problem(404, "NOT_FOUND", "Cannot GET /nothing") },
    { "a method that is not there", "DELETE", "/events", nil, problem(404, "NOT_FOUND", "Cannot DELETE /events") },
    { "a fixed path where another method takes an id", "GET", "/runs/batch/export", nil,
      problem(400, "VALIDATION_ERROR", "Validation failed (uuid is expected)") },
    { "an id that is not even a text", "GET", "/runs/%zz/state", nil,
      problem(400, "VALIDATION_ERROR", "Validation failed (uuid is expected)") },
    { "a name that is not even a text", "GET", "/runtime/policies/%FF", nil,
      problem(400, "VALIDATION_ERROR", { "policyId must be percent-encoded UTF-8 text" }) },
    { "a session that is taken", "POST", "/runs", function() return descriptor({ sessionId = known }) end,
      function()
        return problem(409, "SESSION_ALREADY_EXISTS", "a run for session " .. known .. " exists already")
      end },
    { "messages, which were removed", "POST", "/runs/" .. UNKNOWN .. "/messages", { any = "thing" },
      problem(410, "ENDPOINT_REMOVED", REMOVED:format("messages")) },
    { "signals, which were removed", "POST", "/runs/" .. UNKNOWN .. "/signal", { any = "thing" },
      problem(410, "ENDPOINT_REMOVED", REMOVED:format("signal")) },
    { "contexts, which were removed", "POST", "/runs/" .. UNKNOWN .. "/context", { any = "thing" },
      problem(410, "ENDPOINT_REMOVED", REMOVED:format("context")) },
    { "what was removed, of an id that is none", "POST", "/runs/17/messages", {},
      problem(400, "VALIDATION_ERROR", "Validation failed (uuid is expected)") },
    { "a body that is too large", "POST", "/runs", ("x"):rep(1048577),
      problem(413, "PAYLOAD_TOO_LARGE", "the request body is too large") },
    { "a path that is too long", "GET", "/runs/" .. ("x"):rep(70000), nil,
      problem(414, "URI_TOO_LONG", "the request target is too long") },
  }

  for _, case in ipairs(CASES) do
    it(case[1], function()
      local body, expected = case[4], case[5]
      if type(body) == "function" then body = body() end
      if type(expected) == "function" then expected = expected() end
      is_problem(expected, rig:request(case[2], case[3], body))
    end)
  end

  it("a body of another kind", function()
    is_problem(problem(415, "UNSUPPORTED_MEDIA_TYPE",
      "Unsupported media type text/plain: the body must be application/json"),
      rig:request("POST", "/runs", "a=b", { ["content-type"] = "text/plain" }))
    is_problem(problem(415, "UNSUPPORTED_MEDIA_TYPE",
      "Unsupported content encoding gzip: the body must be sent as it is"),
      rig:request("POST", "/runs", "\31\139\8", { ["content-encoding"] = "gzip" }))
  end)

  it("an expectation that nobody meets", function()
    local client = raw.connect(rig.plane.port)
    local reply = client:ask("POST /runs HTTP/1.1\r\nHost: h\r\nExpect: tea\r\n\r\n")
    is_problem(problem(417, "VALIDATION_ERROR", "only Expect: 100-continue is supported"), reply.status,
      json.decode(reply.body), reply.headers)
    client:close()
  end)

  it("headers that are too large", function()
    local client = raw.connect(rig.plane.port)
    local reply = client:ask("GET /runs HTTP/1.1\r\nHost: test\r\nX-Big: " .. ("x"):rep(70000) .. "\r\n\r\n")
    assert.equal("HEADERS_TOO_LARGE", json.decode(reply.body).errorCode)
    assert.same({ 431, "Request Header Fields Too Large" }, { reply.status, json.decode(reply.body).error })
    client:close()
  end)

  it("a body that is nested too deeply, without reading on", function()
    local status, body, headers = rig:post("/runs", ("["):rep(200) .. ("]"):rep(200))
    assert.matches("^the body is not JSON: ", body.message)
    is_problem(problem(400, "VALIDATION_ERROR", body.message), status, body, headers)
  end)

  it("a state that does not allow what is asked", function()
    local id = crypto.uuid4()
    rig:play(id)
    rig:await(id, "completed")
    is_problem(problem(400, "VALIDATION_ERROR", "only running runs can be suspended (current status: completed)"),
      rig:post("/runs/" .. id .. "/suspend", {}))
    is_problem(problem(400, "VALIDATION_ERROR", "only suspended runs can be resumed (current status: completed)"),
      rig:post("/runs/" .. id .. "/resume", {}))
    local _, live = rig:get("/runs/" .. known)
    assert.equal("running", live.status)
    is_problem(problem(400, "VALIDATION_ERROR", "only terminal runs (completed, failed, cancelled) can be deleted",
      { status = "running" }),
      rig:request("DELETE", "/runs/" .. known))
  end)

  it("a key that was used for another request", function()
    local key = { ["idempotency-key"] = crypto.uuid4() }
    local _, run = rig:post("/runs", descriptor({}), key)
    is_problem(problem(409, "CONFLICT", "idempotency key was used for a different request", { runId = run.runId }),
      rig:post("/runs", descriptor({}), key))
  end)

  it("a cancel callback that fails", function()
    local body = descriptor({ metadata = { cancelCallback = { url = target.url } } })
    local _, run = rig:post("/runs", body)
    rig:open_session(body.session.sessionId)
    rig:await(run.runId, "running")
    is_problem(problem(502, "INTERNAL_ERROR", "cancel callback failed: the callback answered 500"),
      rig:post("/runs/" .. run.runId .. "/cancel", {}))
  end)
end)

-- gRPC status of the runtime -> HTTP status and code.
local OF_RUNTIME = {
  { "INVALID_ARGUMENT", 400, "VALIDATION_ERROR" }, { "OUT_OF_RANGE", 400, "VALIDATION_ERROR" },
  { "UNAUTHENTICATED", 401, "UNAUTHENTICATED" }, { "PERMISSION_DENIED", 403, "FORBIDDEN" },
  { "NOT_FOUND", 404, "NOT_FOUND" }, { "FAILED_PRECONDITION", 409, "CONFLICT" }, { "ABORTED", 409, "CONFLICT" },
  { "ALREADY_EXISTS", 409, "CONFLICT" }, { "RESOURCE_EXHAUSTED", 429, "RATE_LIMITED" },
  { "UNIMPLEMENTED", 501, "NOT_IMPLEMENTED" }, { "UNAVAILABLE", 503, "RUNTIME_UNAVAILABLE" },
  { "DEADLINE_EXCEEDED", 504, "RUNTIME_TIMEOUT" },
}

describe("the plane passes on what the runtime answers:", function()
  local rig, runtime

  setup(function()
    runtime = odd.start()
    rig = plane_rig.start({ address = runtime.address, env = { RUNTIME_CIRCUIT_BREAKER_THRESHOLD = "100000",
      SESSION_DISCOVERY_ENABLED = "false", RUNTIME_REQUEST_TIMEOUT_MS = "2000" } })
  end)
  teardown(function()
    rig:destroy()
    runtime:close()
  end)

  for _, case in ipairs(OF_RUNTIME) do
    it(case[1] .. " as " .. case[2] .. " " .. case[3], function()
      runtime.answers.GetPolicy = function(call) call:fail(rpc.status[case[1]], "the runtime's words") end
      is_problem(problem(case[2], case[3], "the runtime's words", { grpcCode = errors.grpc[case[1]] }),
        rig:get("/runtime/policies/some"))
    end)
  end

  for _, name in ipairs({ "INTERNAL", "UNKNOWN", "DATA_LOSS" }) do
    it(name .. " as 500, without its words", function()
      runtime.answers.GetPolicy = function(call) call:fail(rpc.status[name], "a secret of the runtime") end
      is_problem(problem(500, "INTERNAL_ERROR", "Internal server error", { grpcCode = errors.grpc[name] }),
        rig:get("/runtime/policies/some"))
    end)
  end

  it("no answer as 504", function()
    runtime.answers.GetPolicy = function(call) call:wait_closed() end
    local status, body = rig:get("/runtime/policies/some")
    assert.same({ 504, "RUNTIME_TIMEOUT", errors.grpc.DEADLINE_EXCEEDED },
      { status, body.errorCode, body.metadata.grpcCode })
  end)
end)

describe("the plane's answers", function()
  local rig

  setup(function() rig = plane_rig.start({ env = { AUTH_API_KEYS = "key", CORS_ORIGIN = "https://ui.example" } }) end)
  teardown(function() rig:destroy() end)

  it("name the request, as the caller did if that is harmless", function()
    for given, kept in pairs({ ["a.b:c-d_1"] = true, [("r"):rep(128)] = true, [("r"):rep(129)] = false,
      ["two words"] = false, ["<x>"] = false }) do
      for _, path in ipairs({ "/healthz", "/runs", "/nothing" }) do
        local _, _, headers = rig:get(path, { ["x-request-id"] = given })
        if kept then assert.equal(given, headers["x-request-id"])
        else assert.matches("^%x+%-%x+%-4%x+%-%x+%-%x+$", headers["x-request-id"]) end
      end
    end
  end)

  it("allow one origin, whoever asks, before and with the answer", function()
    local status, body, headers = rig:request("OPTIONS", "/runs", nil,
      { origin = "https://evil.example", ["access-control-request-headers"] = "authorization,x-a" })
    assert.same({ 204, nil, "https://ui.example", "true", "GET,HEAD,PUT,PATCH,POST,DELETE", "authorization,x-a" },
      { status, body, headers["access-control-allow-origin"], headers["access-control-allow-credentials"],
        headers["access-control-allow-methods"], headers["access-control-allow-headers"] })
    for _, path in ipairs({ "/healthz", "/runs", "/nothing" }) do
      local _, _, told = rig:get(path)
      assert.equal("https://ui.example", told["access-control-allow-origin"])
      assert.matches("Origin", told.vary)
    end
  end)

  it("tell who has no key why", function()
    for given, message in pairs({ [false] = "Missing Authorization header", [""] = "Empty authorization token",
      ["Bearer "] = "Empty authorization token", ["Bearer other"] = "Invalid authorization token" }) do
      local status, body = rig:get("/runs", given and { authorization = given } or {})
      assert.same({ 401, problem(401, "UNAUTHENTICATED", message) }, { status, body })
    end
    eventually(function() return rig:get("/runs", { authorization = "key" }) == 200 end)
  end)
end)
