-- Webhooks over the HTTP interface: registration, secrets, the log, delivering again, tests, audit.

local crypto = require("host.crypto")

local json = require("macp.core.json")

local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")
local receiver = require("spec.support.receiver")

local SECRET = "a secret of 24 characters"
local NOBODY = "00000000-0000-4000-8000-000000000000"

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

local rig, target

local function register(changes)
  local body = { url = target.url, secret = SECRET, events = json.array({}) }
  for key, value in pairs(changes or {}) do body[key] = value end
  local status, hook = rig:post("/webhooks", body)
  assert.equal(201, status, json.encode(hook))
  return hook
end

local function remove_all()
  local _, hooks = rig:get("/webhooks")
  for _, hook in ipairs(hooks) do assert.equal(204, (rig:request("DELETE", "/webhooks/" .. hook.id))) end
end

local function deliveries(hook, query)
  local status, page = rig:get("/webhooks/" .. hook.id .. "/deliveries" .. (query or ""))
  assert.equal(200, status)
  return page
end

-- Waits until n deliveries have a status. (yields)
local function await_log(hook, status, n)
  return eventually(function()
    local page = deliveries(hook, "?status=" .. status)
    if #page.data == n then return page.data end
    return nil, #page.data
  end, 5000, n .. " " .. status)
end

local function expect_error(status, code, message, got_status, body)
  assert.equal(status, got_status, json.encode(body))
  assert.equal(code, body.errorCode)
  assert.same(message, body.message)
end

describe("webhooks", function()
  setup(function()
    rig = plane_rig.start()
    target = receiver.start()
  end)
  teardown(function()
    rig:destroy()
    target:close()
  end)
  before_each(function() target.requests, target.answer = {}, nil end)
  after_each(remove_all)

  it("P30: register, list, change and delete without ever showing the secret", function()
    local hook = register({ events = { "run.failed" } })
    assert.equal("********", hook.secret)
    local _, all = rig:post("/webhooks", { url = target.url, secret = SECRET })
    assert.same({}, all.events)
    rig:request("DELETE", "/webhooks/" .. all.id)
    assert.same({ target.url, { "run.failed" }, true, false }, { hook.url, hook.events, hook.active, hook.ordered })
    assert.same({ total = 0, succeeded = 0, failed = 0 }, hook.deliveryStats)
    local status, changed = rig:request("PATCH", "/webhooks/" .. hook.id, { active = false, ordered = true,
      url = "https://example.com/x", events = json.array({}) })
    assert.equal(200, status)
    assert.same({ "https://example.com/x", {}, false, true },
      { changed.url, changed.events, changed.active, changed.ordered })
    local _, hooks = rig:get("/webhooks")
    assert.equal(1, #hooks)
    assert.same(changed, hooks[1])
    assert.same(changed, (select(2, rig:get("/webhooks/" .. hook.id))))
    assert.is_nil(json.encode(hooks):find(SECRET, 1, true))
    assert.equal(204, (rig:request("DELETE", "/webhooks/" .. hook.id)))
    assert.same({}, (select(2, rig:get("/webhooks"))))
  end)

  it("are told apart from what is no webhook, with the reason", function()
    local cases = {
      { { secret = SECRET }, { "url must be a string" } },
      { { url = target.url }, { "secret must be a string" } },
      { { url = "example.com/x", secret = SECRET }, { "url must be a URL address" } },
      { { url = "ftp://example.com/x", secret = SECRET }, { "url must be a URL address" } },
      { { url = target.url, secret = "short" }, { "secret must be longer than or equal to 16 characters" } },
      { { url = target.url, secret = ("s"):rep(256) }, { "secret must be shorter than or equal to 255 characters" } },
      { { url = target.url, secret = SECRET, event = "x" }, { "property event should not exist" } },
      { { url = target.url, secret = SECRET, events = { "run.created" } }, { "events.0 must be one of the following "
        .. "values: run.started, run.suspended, run.resumed, run.completed, run.failed, run.cancelled, *" } },
      { { url = target.url, secret = SECRET, ordered = "yes" }, { "ordered must be a boolean value" } },
    }
    for _, case in ipairs(cases) do
      local status, body = rig:post("/webhooks", case[1])
      assert.equal(400, status)
      assert.equal("VALIDATION_ERROR", body.errorCode)
      assert.equal(1, #body.message)
      assert.equal(case[2][1], body.message[1]:sub(1, #case[2][1]))
    end
    local hook = register()
    expect_error(400, "VALIDATION_ERROR", { "secretOverlapSeconds needs a secret" },
      rig:request("PATCH", "/webhooks/" .. hook.id, { secretOverlapSeconds = 1 }))
    expect_error(400, "VALIDATION_ERROR", { "limit must not be greater than 200" },
      rig:get("/webhooks/" .. hook.id .. "/deliveries?limit=201"))
  end)

  it("that nobody registered are not found", function()
    local gone = "webhook " .. NOBODY .. " not found"
    for _, call in ipairs({ { "GET", "" }, { "PATCH", "" }, { "DELETE", "" }, { "POST", "/test" },
      { "GET", "/deliveries" }, { "POST", "/redeliver" }, { "POST", "/deliveries/" .. NOBODY .. "/redeliver" } }) do
      expect_error(404, "NOT_FOUND", gone,
        rig:request(call[1], "/webhooks/" .. NOBODY .. call[2], call[1] ~= "GET" and {} or nil))
    end
    local hook = register()
    for _, call in ipairs({ { "GET", "" }, { "POST", "/redeliver" } }) do
      expect_error(404, "NOT_FOUND", "delivery " .. NOBODY .. " not found",
        rig:request(call[1], "/webhooks/" .. hook.id .. "/deliveries/" .. NOBODY .. call[2]))
    end
    expect_error(400, "VALIDATION_ERROR", "Validation failed (uuid is expected)", rig:get("/webhooks/7"))
  end)

  it("P31: deliver what a run does, signed with the time and without, and count it", function()
    local hook = register()
    local run_id = rig:finished_run()
    local requests = target:await(2)
    assert.same({ "run.started", "run.completed" }, { requests[1].value.event, requests[2].value.event })
    for _, request in ipairs(requests) do
      local h = request.headers
      assert.equal(run_id, request.value.runId)
      assert.equal("application/json", h["content-type"])
      assert.equal(request.value.event, h["x-macp-event"])
      assert.equal(crypto.hmac_sha256_hex(SECRET, request.body), h["x-macp-signature"])
      local stamp = h["x-macp-timestamp"]
      assert.equal("t=" .. stamp .. ",v1=" .. crypto.hmac_sha256_hex(SECRET, stamp .. "." .. request.body),
        h["x-macp-signature-256"])
    end
    local log = await_log(hook, "delivered", 2)
    assert.equal(requests[2].headers["x-macp-delivery"], log[1].id)
    assert.same({ "run.completed", 1, 200, run_id },
      { log[1].event, log[1].attempts, log[1].responseStatus, log[1].runId })
    local _, stored = rig:get("/webhooks/" .. hook.id .. "/deliveries/" .. log[1].id)
    assert.same(requests[2].value, stored.payload)
    assert.equal(1, #stored.attemptLog)
    assert.equal(200, stored.attemptLog[1].status)
    local stats = select(2, rig:get("/webhooks/" .. hook.id)).deliveryStats
    assert.same({ 2, 2, 0 }, { stats.total, stats.succeeded, stats.failed })
    assert.truthy(stats.lastDeliveredAt)
    local text = rig.plane.registry_metrics:render()
    assert.truthy(text:find('macp_webhook_deliveries_total{status="delivered"} 2', 1, true))
  end)

  it("deliver only what was asked for, and nothing while inactive", function()
    local some, none = register({ events = { "run.completed" } }), register()
    rig:request("PATCH", "/webhooks/" .. none.id, { active = false })
    rig:finished_run()
    await_log(some, "delivered", 1)
    assert.equal(0, #deliveries(none).data)
  end)

  it("sign with the old and the new secret while it is exchanged", function()
    local hook = register()
    local new = "another secret, long enough"
    local _, changed = rig:request("PATCH", "/webhooks/" .. hook.id, { secret = new, secretOverlapSeconds = 3600 })
    assert.truthy(changed.previousSecretExpiresAt ~= json.null)
    rig:post("/webhooks/" .. hook.id .. "/test")
    local h, body = target.requests[1].headers, target.requests[1].body
    local signed = h["x-macp-timestamp"] .. "." .. body
    assert.equal("t=" .. h["x-macp-timestamp"] .. ",v1=" .. crypto.hmac_sha256_hex(new, signed) .. ",v1="
      .. crypto.hmac_sha256_hex(SECRET, signed), h["x-macp-signature-256"])
    assert.equal(crypto.hmac_sha256_hex(new, body), h["x-macp-signature"])
    rig:request("PATCH", "/webhooks/" .. hook.id, { secret = "the third secret, also long", secretOverlapSeconds = 0 })
    rig:post("/webhooks/" .. hook.id .. "/test")
    local _, count = target.requests[2].headers["x-macp-signature-256"]:gsub("v1=", "")
    assert.equal(1, count)
  end)

  it("are tested at once, whatever the receiver says", function()
    local hook = register()
    local status, told = rig:post("/webhooks/" .. hook.id .. "/test")
    assert.same({ 200, true, 200 }, { status, told.ok, told.responseStatus })
    assert.same({ "webhook.test", hook.id }, { target.requests[1].value.event, target.requests[1].value.webhookId })
    target.answer = function() return 418, {}, ("tea\0\255 "):rep(1000) end
    status, told = rig:post("/webhooks/" .. hook.id .. "/test")
    assert.same({ 200, false, 418, "webhook returned 418" }, { status, told.ok, told.responseStatus, told.error })
    assert.is_true(#told.response >= 500 and #told.response <= 2048)
    local log = deliveries(hook).data
    assert.same({ "failed", "delivered" }, { log[1].status, log[2].status })
    assert.equal(json.null, log[1].runId)
  end)

  it("deliver again, one or many, with the same id and bytes", function()
    local hook = register({ events = { "run.completed" } })
    rig:finished_run()
    local log = await_log(hook, "delivered", 1)
    local path = "/webhooks/" .. hook.id
    local status, again = rig:post(path .. "/deliveries/" .. log[1].id .. "/redeliver")
    assert.same({ 200, "pending", 0 }, { status, again.status, again.attempts })
    local requests = target:await(2)
    assert.equal(requests[1].body, requests[2].body)
    assert.equal(requests[1].headers["x-macp-delivery"], requests[2].headers["x-macp-delivery"])
    await_log(hook, "delivered", 1)
    assert.same({ redelivered = 0 }, (select(2, rig:post(path .. "/redeliver"))))
    assert.same({ redelivered = 1 }, (select(2, rig:post(path .. "/redeliver", { deliveryIds = { log[1].id } }))))
    target:await(3)
    await_log(hook, "delivered", 1)
    rig:rows("update webhook_deliveries set status = 'failed'")
    assert.same({ redelivered = 0 }, (select(2, rig:post(path .. "/redeliver", { event = "run.failed" }))))
    assert.same({ redelivered = 0 },
      (select(2, rig:post(path .. "/redeliver", { createdAfter = "2999-01-01T00:00:00Z" }))))
    assert.same({ redelivered = 1 },
      (select(2, rig:post(path .. "/redeliver", { createdBefore = "2999-01-01T00:00:00Z", event = "run.completed" }))))
    target:await(4)
    rig:request("PATCH", path, { active = false })
    local message = "webhook " .. hook.id .. " is not active: nothing is delivered to it"
    expect_error(409, "CONFLICT", message, rig:post(path .. "/redeliver"))
    expect_error(409, "CONFLICT", message, rig:post(path .. "/deliveries/" .. log[1].id .. "/redeliver"))
  end)

  it("do not deliver again what is being attempted", function()
    local hook, id = register(), crypto.uuid4()
    rig:rows([[insert into webhook_deliveries (tenant, id, webhook_id, event, body, claimed_by, next_attempt_at)
      values ('default', $1, $2, 'run.failed', '{}', 'another', now() + interval '1 minute')]], id, hook.id)
    expect_error(409, "CONFLICT", "delivery " .. id .. " is being attempted",
      rig:post("/webhooks/" .. hook.id .. "/deliveries/" .. id .. "/redeliver"))
  end)

  it("list their log in pages", function()
    local hook = register({ url = "http://127.0.0.1:1/" })
    rig:rows([[insert into webhook_deliveries (tenant, id, webhook_id, event, body, status)
      select 'default', gen_random_uuid(), $1, 'run.failed', '{}', 'failed' from generate_series(1, 5)]], hook.id)
    local first = deliveries(hook, "?limit=2")
    local second = deliveries(hook, "?limit=2&cursor=" .. first.nextCursor)
    local third = deliveries(hook, "?limit=2&offset=4")
    assert.same({ 2, 2, 1 }, { #first.data, #second.data, #third.data })
    assert.equal(json.null, third.nextCursor)
    local seen = {}
    for _, page in ipairs({ first, second, third }) do
      for _, delivery in ipairs(page.data) do seen[delivery.id] = true end
    end
    local n = 0
    for _ in pairs(seen) do n = n + 1 end
    assert.equal(5, n)
  end)

  it("leave an audit entry for each change, without secrets", function()
    rig:rows("delete from audit_log")
    local hook = register()
    rig:request("PATCH", "/webhooks/" .. hook.id, { secret = "changed secret, long enough" })
    rig:post("/webhooks/" .. hook.id .. "/test")
    rig:post("/webhooks/" .. hook.id .. "/redeliver")
    rig:request("DELETE", "/webhooks/" .. hook.id)
    local rows = rig:rows("select action, resource_id, details::text as details from audit_log order by created_at, id")
    local actions = {}
    for i, row in ipairs(rows) do
      actions[i] = row.action
      assert.equal(hook.id, row.resource_id)
      assert.is_nil(row.details:find("secret", 1, true))
    end
    assert.same({ "webhook.created", "webhook.updated", "webhook.tested", "webhook.redelivered", "webhook.deleted" },
      actions)
  end)

  it("end at a thousand", function()
    rig:rows([[insert into webhooks (tenant, id, url, secret, active)
      select 'default', gen_random_uuid(), 'http://127.0.0.1:1/', 's', false from generate_series(1, 1000)]])
    expect_error(409, "CONFLICT", "there are 1000 webhooks already",
      rig:post("/webhooks", { url = target.url, secret = SECRET }))
    rig:rows("delete from webhooks")
  end)
end)

describe("a plane that guards its network", function()
  setup(function()
    rig = plane_rig.start({ env = { OUTBOUND_ALLOW_PRIVATE = "false" } })
    target = receiver.start()
  end)
  teardown(function()
    rig:destroy()
    target:close()
  end)

  it("P31: refuses addresses at registration and names when it connects", function()
    for _, url in ipairs({ target.url, "http://10.1.2.3/", "http://127.1/", "http://2130706433/", "http://[::1]/x",
      "http://169.254.169.254/latest/meta-data", "http://[fd00::1]/", "https://[::ffff:192.168.0.1]/" }) do
      expect_error(400, "VALIDATION_ERROR", { "url must not point to a private, loopback or metadata address" },
        rig:post("/webhooks", { url = url, secret = SECRET }))
    end
    local hook = register({ url = "http://localhost:" .. target.port .. "/" })
    expect_error(400, "VALIDATION_ERROR", { "url must not point to a private, loopback or metadata address" },
      rig:request("PATCH", "/webhooks/" .. hook.id, { url = "http://192.168.1.1/" }))
    local _, told = rig:post("/webhooks/" .. hook.id .. "/test")
    assert.is_false(told.ok)
    assert.truthy(told.error:find("is not public", 1, true), told.error)
    rig:finished_run()
    local log = eventually(function()
      local page = deliveries(hook, "?status=pending")
      local first = page.data[#page.data] -- the start of the run; its end waits for it
      return first and first.attempts > 0 and first
    end, 5000, "an attempt")
    assert.truthy(log.errorMessage:find("is not public", 1, true))
    assert.equal(0, #target.requests)
  end)
end)
