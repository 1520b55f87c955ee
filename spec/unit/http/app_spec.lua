local crypto = require("host.crypto")

local api_key = require("macp.auth.api_key")
local chain = require("macp.auth.chain")
local errors = require("macp.core.errors")
local ids = require("macp.core.ids")
local json = require("macp.core.json")
local metrics = require("macp.telemetry.metrics")

local fakes = require("spec.unit.http.fakes")

local UUID = "7c1e4b1a-0000-1000-8000-00000000abcd"
local route, new, assert_problem = fakes.route, fakes.application, fakes.assert_problem

describe("app replies", function()
  it("encode tables as JSON, send text as it is and nothing for nil", function()
    local application = new({
      route(), route({ path = "/raw-json", handler = function() return 202, '{"a":1}' end }),
      route({ path = "/text", handler = function() return 200, "hi", { ["content-type"] = "text/plain" } end }),
      route({ path = "/none", handler = function() return 204 end }),
    })
    local reply, body = fakes.call(application, { path = "/thing" })
    assert.same({ 200, { ok = true } }, { reply.status, body })
    reply, body = fakes.call(application, { path = "/raw-json" })
    assert.same({ 202, { a = 1 } }, { reply.status, body })
    reply = fakes.call(application, { path = "/text" })
    assert.same({ "hi", "text/plain" }, { reply.body, reply.headers["content-type"] })
    reply = fakes.call(application, { path = "/none" })
    assert.same({ 204, nil, nil }, { reply.status, reply.body, reply.headers["content-type"] })
  end)

  it("echo a harmless request id and replace any other", function()
    local application = new({ route() })
    local reply = fakes.call(application, { path = "/thing", headers = { ["x-request-id"] = "abc-1.2:3_" } })
    assert.equal("abc-1.2:3_", reply.headers["x-request-id"])
    for _, bad in ipairs({ "", "a b", ("x"):rep(129), "<script>" }) do
      reply = fakes.call(application, { path = "/thing", headers = { ["x-request-id"] = bad } })
      assert.is_true(ids.is_uuid(reply.headers["x-request-id"]))
    end
  end)

  it("carry the one allowed origin", function()
    local reply = fakes.call(new({ route() }), { path = "/thing", headers = { origin = "http://evil" } })
    assert.same({ "http://localhost:3000", "Origin", "true" }, {
      reply.headers["access-control-allow-origin"], reply.headers["vary"],
      reply.headers["access-control-allow-credentials"],
    })
    reply = fakes.call(new({ route() }, { config = {} }), { path = "/thing" })
    assert.is_nil(reply.headers["access-control-allow-origin"])
  end)

  it("answer a preflight for any path", function()
    local reply = fakes.call(new({ route() }), {
      method = "OPTIONS", path = "/runs", headers = { ["access-control-request-headers"] = "authorization,x-a" },
    })
    assert.same({ 204, "GET,HEAD,PUT,PATCH,POST,DELETE", "authorization,x-a", "http://localhost:3000" }, {
      reply.status, reply.headers["access-control-allow-methods"], reply.headers["access-control-allow-headers"],
      reply.headers["access-control-allow-origin"],
    })
  end)

  it("serve HEAD through GET", function()
    local reply = fakes.call(new({ route() }), { method = "HEAD", path = "/thing" })
    assert.equal(200, reply.status)
  end)
end)

describe("app errors", function()
  local application = new({
    route({ path = "/typed", handler = function() error(errors.new("CONFLICT", { key = "k" }, "twice"), 0) end }),
    route({ path = "/bug", handler = function() error("secret detail") end }),
    route({ path = "/host", handler = function() errors.check(nil, { code = "TIMEOUT", message = "secret" }) end }),
    route({ path = "/status", handler = function()
      local err = errors.new("INTERNAL_ERROR", nil, "callback failed")
      err.http = 502
      error(err, 0)
    end }),
    route({ path = "/away", handler = function() error(errors.new("SERVICE_UNAVAILABLE"), 0) end }),
    route({ path = "/away/:seconds", handler = function(ctx)
      local err = errors.new("CIRCUIT_BREAKER_OPEN")
      err.retry_after_s = tonumber(ctx.params.seconds)
      error(err, 0)
    end }),
    route({ path = "/runs/:id", handler = function(ctx) return 200, { id = ctx.params.id } end }),
    route({ method = "POST", path = "/gone/:id", handler = function() error(errors.new("ENDPOINT_REMOVED"), 0) end }),
  }, { auth = chain.new({ api_key.new({ "k" }) }) })

  local log, silent = require("host.log"), nil
  setup(function() silent = stub(log, "error") end)
  teardown(function() silent:revert() end)

  it("shape typed errors with metadata", function()
    local reply, body = fakes.call(application, { path = "/typed" })
    assert_problem(reply, body, 409, "CONFLICT", "twice")
    assert.same({ "Conflict", { key = "k" } }, { body.error, body.metadata })
  end)

  it("tell nothing about bugs and host errors", function()
    for _, path in ipairs({ "/bug", "/host" }) do
      local reply, body = fakes.call(application, { path = path })
      assert_problem(reply, body, 500, "INTERNAL_ERROR", "Internal server error")
      assert.is_nil(reply.body:find("secret", 1, true))
      assert.is_nil(body.metadata)
    end
    assert.stub(silent).was.called(2)
  end)

  it("keep an explicit status", function()
    local reply, body = fakes.call(application, { path = "/status" })
    assert_problem(reply, body, 502, "INTERNAL_ERROR", "callback failed")
  end)

  it("tell when another try is worth it", function()
    local function told(path) return fakes.call(application, { path = path }).headers["retry-after"] end
    assert.same({ "2", "17", "1" }, { told("/away"), told("/away/17"), told("/away/-3") })
    assert.is_nil(told("/typed"))
  end)

  it("answer unknown paths with 404 without asking for a key", function()
    local reply, body = fakes.call(application, { path = "/nope", method = "POST" })
    assert_problem(reply, body, 404, "NOT_FOUND", "Cannot POST /nope")
  end)

  it("answer a method that a path does not have like an unknown path, with those that it has", function()
    local reply, body = fakes.call(application, { path = "/typed", method = "DELETE" })
    assert_problem(reply, body, 404, "NOT_FOUND", "Cannot DELETE /typed")
    assert.equal("GET, HEAD", reply.headers["allow"])
  end)

  local bad_ids = { "x", "batch", UUID .. "0", UUID:gsub("-", "") }
  for _, id in ipairs(bad_ids) do
    it("refuse the id " .. id .. " before any route logic", function()
      for _, fields in ipairs({ { path = "/runs/" .. id }, { method = "POST", path = "/gone/" .. id } }) do
        local reply, body = fakes.call(application, fields)
        assert_problem(reply, body, 400, "VALIDATION_ERROR", "Validation failed (uuid is expected)")
      end
    end)
  end

  it("accept any well-formed UUID", function()
    local reply, body = fakes.call(application, { path = "/runs/" .. UUID:upper() })
    assert.same({ 200, UUID:upper() }, { reply.status, body.id })
  end)

  it("shape what the host refuses", function()
    local on_error = application:on_error()
    local cases = { { 400, "VALIDATION_ERROR" }, { 408, "REQUEST_TIMEOUT" }, { 413, "PAYLOAD_TOO_LARGE" },
      { 414, "URI_TOO_LONG" }, { 431, "HEADERS_TOO_LARGE" }, { 500, "INTERNAL_ERROR" }, { 501, "NOT_IMPLEMENTED" },
      { 503, "SERVICE_UNAVAILABLE" } }
    for _, case in ipairs(cases) do
      local headers, text = on_error(case[1], "the reason", { ["x-request-id"] = "mine" })
      local body = json.decode(text)
      assert.equal("application/json; charset=utf-8", headers["content-type"])
      assert.equal("mine", headers["x-request-id"])
      assert.same({ case[1], case[2] }, { body.statusCode, body.errorCode })
      assert.equal(case[1] == 500 and "Internal server error" or "the reason", body.message)
      assert.equal(case[1] == 503 and "2" or nil, headers["retry-after"])
    end
  end)
end)

describe("app security", function()
  local actor_seen
  local function guarded(opts)
    return new({
      route({ path = "/guarded", public = false, scope = "runs:read", handler = function(ctx)
        actor_seen = ctx.actor
        return 200, { tenant = ctx.tenant }
      end }),
      route({ path = "/open" }), route({ path = "/free", rate = "none" }),
    }, opts)
  end

  it("asks for a key on guarded routes only", function()
    local application = guarded({ auth = chain.new({ api_key.new({ "key" }) }) })
    local reply, body = fakes.call(application, { path = "/guarded" })
    assert_problem(reply, body, 401, "UNAUTHENTICATED", "Missing Authorization header")
    reply, body = fakes.call(application, { path = "/guarded", headers = { authorization = "Bearer key" } })
    assert.same({ 200, "default", "api-key" }, { reply.status, body.tenant, actor_seen.type })
    assert.equal(200, fakes.call(application, { path = "/open" }).status)
  end)

  it("refuses actors without the scope", function()
    local auth = chain.new({ { resolve = function()
      return { id = "a", type = "t", tenant = "x", scopes = { ["runs:write"] = true } }
    end } })
    local reply, body = fakes.call(guarded({ auth = auth }), { path = "/guarded" })
    assert_problem(reply, body, 403, "FORBIDDEN", "missing scope runs:read")
  end)

  it("counts requests per route and actor", function()
    local now = 0
    local limits = { limit = 2, window_ms = 1500, now_ms = function() return now end }
    local application = guarded({ auth = chain.new({ api_key.new({ "k1", "k2" }) }), limiter = limits })
    local function get(key) return fakes.call(application, { path = "/guarded", headers = { authorization = key } }) end
    assert.same({ "2", "1", "2" }, { get("k1").headers["x-ratelimit-limit"],
      get("k2").headers["x-ratelimit-remaining"], get("k1").headers["x-ratelimit-reset"] })
    now = 700
    local reply, body = get("k1")
    assert_problem(reply, body, 429, "RATE_LIMITED", "ThrottlerException: Too Many Requests")
    assert.same({ "0", "1", "1" }, { reply.headers["x-ratelimit-remaining"], reply.headers["x-ratelimit-reset"],
      reply.headers["retry-after"] })
    assert.equal(200, fakes.call(application, { path = "/open" }).status)
    now = 1500
    assert.equal(200, get("k1").status)
  end)

  it("counts strangers by address and exempts routes without a rate", function()
    local application = guarded({ limiter = { limit = 1, window_ms = 1000, now_ms = function() return 0 end } })
    assert.equal(200, fakes.call(application, { path = "/open", peer = "10.0.0.1" }).status)
    assert.equal(429, fakes.call(application, { path = "/open", peer = "10.0.0.1" }).status)
    assert.equal(200, fakes.call(application, { path = "/open", peer = "10.0.0.2" }).status)
    for _ = 1, 5 do
      local reply = fakes.call(application, { path = "/free" })
      assert.same({ 200, nil }, { reply.status, reply.headers["x-ratelimit-limit"] })
    end
  end)

  it("counts refused keys by address, over all routes, and lets good ones pass", function()
    local now = 0
    local application = new({ route({ path = "/one", public = false, scope = "runs:read" }),
      route({ path = "/two", public = false, scope = "runs:read" }) }, {
      auth = chain.new({ api_key.new({ "good" }) }),
      limiter = { limit = 2, window_ms = 1500, now_ms = function() return now end },
    })
    local function get(path, key, peer)
      return fakes.call(application, { path = path, peer = peer, headers = { authorization = key } })
    end
    local reply, body = get("/one", "bad")
    assert_problem(reply, body, 401, "UNAUTHENTICATED", "Invalid authorization token")
    assert.same({ "2", "1", "2" }, { reply.headers["x-ratelimit-limit"], reply.headers["x-ratelimit-remaining"],
      reply.headers["x-ratelimit-reset"] })
    assert.equal(401, get("/two", nil).status)
    reply, body = get("/two", "worse")
    assert_problem(reply, body, 429, "RATE_LIMITED", "ThrottlerException: Too Many Requests")
    assert.equal("2", reply.headers["retry-after"])
    assert.equal(200, get("/one", "good").status)
    assert.equal(401, get("/one", "bad", "10.9.9.9").status)
    now = 1500
    assert.equal(401, get("/one", "bad").status)
  end)

  it("takes the limit from the configuration", function()
    local application = new({ route() }, { config = { throttle_limit = 7, throttle_ttl_ms = 1000 } })
    assert.equal("7", fakes.call(application, { path = "/thing" }).headers["x-ratelimit-limit"])
  end)
end)

describe("app records", function()
  it("audits successful changes only", function()
    local entries = {}
    local function audit(ctx, action, value)
      entries[#entries + 1] = action .. " " .. value.id .. " " .. ctx.tenant
      return true
    end
    local application = new({
      route({ method = "POST", path = "/a", audit = "thing.created", handler = function()
        return 201, { id = "1" }
      end }),
      route({ method = "POST", path = "/b", audit = "thing.created", handler = function()
        error(errors.new("CONFLICT"), 0)
      end }),
      route({ method = "POST", path = "/c", audit = "thing.created", handler = function(ctx)
        ctx.audited = true
        return 200, { id = "3" }
      end }),
    }, { audit = audit })
    for _, path in ipairs({ "/a", "/b", "/c" }) do fakes.call(application, { method = "POST", path = path }) end
    assert.same({ "thing.created 1 default" }, entries)
  end)

  it("counts requests by route, method and status", function()
    local registry = metrics.new()
    local application = new({ route({ path = "/runs/:id" }) }, { metrics = registry })
    for _ = 1, 3 do fakes.call(application, { path = "/runs/" .. UUID }) end
    fakes.call(application, { path = "/runs/x" })
    fakes.call(application, { path = "/random" .. math.random(1000) })
    local text = registry:render()
    for _, line in ipairs({
      'http_requests_total{method="GET",path="/runs/:id",status_code="200"} 3',
      'http_requests_total{method="GET",path="/runs/:id",status_code="400"} 1',
      'http_requests_total{method="GET",path="unmatched",status_code="404"} 1',
      'http_request_duration_seconds_count{method="GET",path="/runs/:id",status_code="200"} 3',
    }) do assert.truthy(text:find(line, 1, true), line) end
  end)
end)

describe("the access log", function()
  local log = require("host.log")
  local stubs

  before_each(function()
    local enabled = stub(log, "enabled", function(level) return level ~= "debug" end)
    stubs = { info = stub(log, "info"), debug = stub(log, "debug"), enabled = enabled }
  end)
  after_each(function()
    for _, each in pairs(stubs) do each:revert() end
  end)

  local function logged(fields, route_fields)
    fakes.call(new({ route(route_fields) }), fields)
    local call = stubs.info.calls[1] or stubs.debug.calls[1]
    return call and call.vals[1], call and call.vals[2]
  end

  it("has one line per request", function()
    local event, line = logged({ path = "/thing", query = "a=1", headers = { ["x-request-id"] = "r1" } })
    assert.equal("http.request", event)
    assert.same({ "GET", "/thing?a=1", 200, "r1", "number" },
      { line.method, line.path, line.statusCode, line.requestId, type(line.durationMs) })
    assert.stub(stubs.info).was.called(1)
  end)

  it("names the caller and its tenant, when there is a key", function()
    local application = new({ route({ public = false, scope = "runs:read" }) }, { auth = chain.new({ api_key.new({
      { digest = crypto.sha256("key"), name = "ops", tenant = "acme", where = "" } }) }) })
    fakes.call(application, { path = "/thing", headers = { authorization = "Bearer key" } })
    fakes.call(application, { path = "/thing", headers = { authorization = "Bearer wrong" } })
    local calls = stubs.info.calls
    local good, bad = calls[1].vals[2], calls[2].vals[2]
    assert.same({ 200, "ops", "acme" }, { good.statusCode, good.actor, good.tenant })
    assert.same({ 401, nil, nil }, { bad.statusCode, bad.actor, bad.tenant })
  end)

  for query, shown in pairs({ ["a=1&api_key=x&b="] = "a=1&api_key=********&b=", ["Token=x"] = "Token=********",
    ["pageToken=x&limit=2"] = "pageToken=x&limit=2", ["authorization=Bearer%20x"] = "authorization=********" }) do
    it("masks what looks like a credential: " .. query, function()
      local _, line = logged({ path = "/thing", query = query })
      assert.equal("/thing?" .. shown, line.path)
    end)
  end

  it("keeps the query of streams to itself", function()
    local _, line = logged({ path = "/thing", query = "token=secret" }, { raw = true, handler = function(ctx)
      ctx.res:send(200)
    end })
    assert.equal("/thing", line.path)
  end)

  it("mentions quiet routes at debug only", function()
    logged({ path = "/thing" }, { quiet = true })
    assert.stub(stubs.info).was_not.called()
  end)
end)

describe("app.mount", function()
  local cases = {
    { { summary = false }, "route GET /thing needs a summary" },
    { { public = false }, "route GET /thing needs a scope, or public = true" },
    { { returns = {} }, "route GET /thing needs returns" }, { { handler = 1 }, "route GET /thing needs a handler" },
    { { body = { typ = "object" } }, "schema: unknown keyword typ (did you mean `type`?)" },
  }
  for _, case in ipairs(cases) do
    it("refuses: " .. case[2], function()
      assert.has_error(function() new({ route(case[1]) }) end, case[2])
    end)
  end
end)
