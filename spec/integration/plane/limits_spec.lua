-- How much and how often a caller may ask, over real HTTP: each refusal with its headers and its body.

local crypto = require("host.crypto")
local fetch = require("host.fetch")

local json = require("macp.core.json")

local plane_rig = require("spec.support.plane_rig")

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

local LIMIT = 3

describe("the plane's limits", function()
  local rig

  setup(function()
    rig = plane_rig.start({ env = { AUTH_API_KEYS = "first,second,third,customer-1,customer-2",
      THROTTLE_LIMIT = tostring(LIMIT), THROTTLE_TTL_MS = "600000" } })
  end)
  teardown(function() rig:destroy() end)

  local function ask(path, key, headers)
    headers = headers or {}
    headers.authorization = key
    local status, body, reply_headers = rig:get(path, headers)
    return { status = status, body = body, headers = reply_headers }
  end

  local TOO_MANY = { statusCode = 429, errorCode = "RATE_LIMITED", message = "ThrottlerException: Too Many Requests",
    error = "Too Many Requests" }

  it("count per key and endpoint", function()
    for i = 1, LIMIT do
      local reply = ask("/runs", "first")
      assert.same({ 200, "3", tostring(LIMIT - i), nil }, { reply.status, reply.headers["x-ratelimit-limit"],
        reply.headers["x-ratelimit-remaining"], reply.headers["retry-after"] })
    end
    local reply = ask("/runs", "first")
    assert.same({ 429, TOO_MANY }, { reply.status, reply.body })
    assert.same({ "3", "0" }, { reply.headers["x-ratelimit-limit"], reply.headers["x-ratelimit-remaining"] })
    local reset = tonumber(reply.headers["x-ratelimit-reset"])
    assert.is_true(reset > 0 and reset <= 600)
    assert.equal(reply.headers["x-ratelimit-reset"], reply.headers["retry-after"])
    assert.same({ 200, 200 }, { ask("/runs", "second").status, ask("/audit", "first").status })
  end)

  it("P29: count keys apart that begin alike, and tell none of a key's letters", function()
    for i = 1, LIMIT do
      assert.equal(tostring(LIMIT - i), ask("/runs", "customer-1").headers["x-ratelimit-remaining"])
    end
    assert.equal(429, ask("/runs", "customer-1").status)
    local reply = ask("/runs", "customer-2")
    assert.same({ 200, tostring(LIMIT - 1) }, { reply.status, reply.headers["x-ratelimit-remaining"] })
    for _, key in ipairs({ "customer-1", "customer-2" }) do
      assert.equal(201, (rig:post("/webhooks", { url = "http://127.0.0.1:1/", secret = ("s"):rep(16) },
        { authorization = key })))
    end
    local actors = rig:rows("select actor from audit_log where action = 'webhook.created' order by created_at")
    assert.same({ crypto.sha256_hex("customer-1"):sub(1, 8), crypto.sha256_hex("customer-2"):sub(1, 8) },
      { actors[1].actor, actors[2].actor })
  end)

  it("count wrong keys by address, whatever they ask for", function()
    for _, path in ipairs({ "/runs", "/audit", "/webhooks" }) do assert.equal(401, ask(path, "wrong").status) end
    local reply = ask("/events", "wrong")
    assert.same({ 429, TOO_MANY }, { reply.status, reply.body })
    assert.equal(429, ask("/events", nil).status)
    assert.equal(200, ask("/runs", "third").status)
  end)

  it("do not count those who look after the process", function()
    for _ = 1, LIMIT + 2 do
      for _, path in ipairs({ "/healthz", "/readyz", "/metrics" }) do
        local reply = ask(path)
        assert.is_true(reply.status ~= 429)
        assert.is_nil(reply.headers["x-ratelimit-limit"])
      end
    end
  end)

  it("refuse long paths, large heads, large and deep bodies", function()
    local function told(status, body) return { status, body.errorCode, body.error } end
    assert.same({ 414, "URI_TOO_LONG", "URI Too Long" }, told(rig:get("/runs?search=" .. ("x"):rep(100000))))
    assert.same({ 431, "HEADERS_TOO_LARGE", "Request Header Fields Too Large" },
      told(rig:get("/runs", { ["x-much"] = ("x"):rep(100000) })))
    local key = { authorization = "third" }
    assert.same({ 413, "PAYLOAD_TOO_LARGE", "Payload Too Large" },
      told(rig:post("/runs/compare", ("x"):rep(1048577), key)))
    local status, body = rig:post("/runs/compare", ("["):rep(200) .. ("]"):rep(200), key)
    assert.same({ 400, "VALIDATION_ERROR" }, { status, body.errorCode })
    assert.truthy(body.message:find("nested too deeply", 1, true))
  end)

  it("end statements that take too long", function()
    local function value(name)
      return rig.plane.db:query("select current_setting('" .. name .. "') as v").rows[1].v
    end
    assert.same({ "30s", "5s" }, { value("statement_timeout"), value("lock_timeout") })
    assert.are_not.equal("0", value("idle_in_transaction_session_timeout"))
  end)

  it("tell who asked for one that takes too long to come back", function()
    local impatient = rig:start_plane({ DB_STATEMENT_TIMEOUT = "100" })
    local status, body, headers
    assert(rig.db:tx(function(tx)
      assert(tx:query("lock table runs in access exclusive mode"))
      local reply = assert(fetch.request({ url = impatient.url .. "/runs", headers = { authorization = "second" } }))
      status, body, headers = reply.status, json.decode(tostring(reply.body)), reply.headers
      return true
    end))
    impatient:close()
    assert.same({ 503, "2" }, { status, headers["retry-after"] })
    assert.same({ statusCode = 503, errorCode = "SERVICE_UNAVAILABLE", message = "the database took too long",
      error = "Service Unavailable" }, body)
  end)
end)
