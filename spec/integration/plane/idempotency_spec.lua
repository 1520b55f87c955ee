-- Idempotency-Key: what changes something is done once per key, and the first answer is given again.

local crypto = require("host.crypto")
local fetch = require("host.fetch")
local task = require("host.task")

local json = require("macp.core.json")

local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")
local receiver = require("spec.support.receiver")

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

describe("a request with an Idempotency-Key", function()
  local rig, run_id

  setup(function()
    rig = plane_rig.start({ env = { OUTBOUND_ALLOW_PRIVATE = "true" } })
    run_id = crypto.uuid4()
    rig:play(run_id)
    rig:await(run_id, "completed")
  end)
  teardown(function() rig:destroy() end)

  local function artifact(key, label, plane)
    local reply = assert(fetch.request({ url = (plane or rig.plane).url .. "/runs/" .. run_id .. "/artifacts",
      method = "POST", headers = { ["content-type"] = "application/json", ["idempotency-key"] = key },
      body = json.encode({ kind = "log", label = label }) }))
    return reply.status, json.decode(tostring(reply.body)), reply.headers, tostring(reply.body)
  end

  local function count() return #select(2, rig:get("/runs/" .. run_id .. "/artifacts")) end

  it("is done once, on whichever process it is repeated", function()
    local key, before = crypto.uuid4(), count()
    local status, first, headers, text = artifact(key, "a")
    assert.same({ 201, nil }, { status, headers["idempotent-replayed"] })
    local second = rig:start_plane()
    for _, plane in ipairs({ rig.plane, second }) do
      local again, same, told, bytes = artifact(key, "a", plane)
      assert.same({ 201, "true", first.id }, { again, told["idempotent-replayed"], same.id })
      assert.equal(text, bytes)
      assert.equal("application/json; charset=utf-8", told["content-type"])
    end
    second:close()
    assert.equal(before + 1, count())
    assert.equal(1, rig:rows("select count(*)::int as n from audit_log where action = 'artifact.created' "
      .. "and details->>'path' = $1", "/runs/" .. run_id .. "/artifacts")[1].n)
  end)

  it("is refused when it is another one: 409", function()
    local key = crypto.uuid4()
    artifact(key, "a")
    local status, problem = artifact(key, "b")
    assert.same({ 409, "CONFLICT", "the Idempotency-Key was used for a different request", "Conflict" },
      { status, problem.errorCode, problem.message, problem.error })
    status, problem = rig:post("/runs/" .. run_id .. "/archive", {}, { ["idempotency-key"] = key })
    assert.same({ 409, "CONFLICT" }, { status, problem.errorCode })
  end)

  it("is the same one however its JSON is written", function()
    local key = { ["idempotency-key"] = crypto.uuid4() }
    local path = "/runs/" .. run_id .. "/artifacts"
    local _, first = rig:post(path, '{"kind":"log","label":"x"}', key)
    local _, second = rig:post(path, '{ "label": "x", "kind": "\\u006cog" }', key)
    assert.equal(first.id, second.id)
  end)

  it("that failed may be repeated, and is done then", function()
    local key = { ["idempotency-key"] = crypto.uuid4() }
    local missing = crypto.uuid4()
    assert.equal(404, (rig:post("/runs/" .. missing .. "/archive", {}, key)))
    assert.equal(404, (rig:post("/runs/" .. missing .. "/archive", {}, key)))
    assert.equal(200, (rig:post("/runs/" .. run_id .. "/archive", {}, key)))
  end)

  it("is told to wait while the first one is being done, and finds its answer although its caller left", function()
    local target = receiver.start(function()
      task.sleep(1000)
      return 200
    end)
    local _, hook = rig:post("/webhooks", { url = target.url, secret = ("s"):rep(20), events = { "run.failed" } })
    local key = crypto.uuid4()
    local function test()
      return rig:post("/webhooks/" .. hook.id .. "/test", {}, { ["idempotency-key"] = key })
    end
    local first = task.spawn(test)
    target:await(1)
    local status, problem = test()
    assert.same({ 409, "CONFLICT", "the request with this Idempotency-Key is not answered yet" },
      { status, problem.errorCode, problem.message })
    first:cancel()
    first:join()
    local told = eventually(function()
      local code, value = test()
      return code == 200 and value
    end, 10000)
    assert.is_true(told.ok)
    assert.equal(1, #target.requests)
    target:close()
  end)

  it("is refused when the key can be none: 400", function()
    for _, key in ipairs({ "", ("k"):rep(256), "\255" }) do
      local status, problem = artifact(key, "a")
      assert.same({ 400, "VALIDATION_ERROR", "Idempotency-Key must be a text of 1 to 255 bytes" },
        { status, problem.errorCode, problem.message })
    end
  end)

  it("is forgotten when its time is over", function()
    local key = crypto.uuid4()
    local _, first = artifact(key, "a")
    rig:rows("update idempotency_replies set expires_at = now() - interval '1 second'")
    local _, second = artifact(key, "a")
    assert.are_not.equal(first.id, second.id)
    rig:rows("update idempotency_replies set expires_at = now() - interval '1 second'")
    local other = rig:start_plane()
    eventually(function() return rig:rows("select count(*)::int as n from idempotency_replies")[1].n == 0 end)
    other:close()
  end)

  it("is described for everything that changes something by POST", function()
    local _, document = rig:get("/docs-json")
    local takes, asks = {}, {}
    for path, methods in pairs(document.paths) do
      local operation = methods.post
      local has = false
      for _, parameter in ipairs(operation and operation.parameters or {}) do
        has = has or parameter.name == "Idempotency-Key"
      end
      if has then
        takes[path] = true
        assert.truthy(operation.responses["409"], path)
      elseif operation then
        asks[#asks + 1] = path
      end
    end
    table.sort(asks)
    assert.same({ "/runs/batch/export", "/runs/compare", "/runs/validate", "/runs/{id}/context", "/runs/{id}/messages",
      "/runs/{id}/replay", "/runs/{id}/signal" }, asks)
    for _, path in ipairs({ "/runs", "/runs/{id}/clone", "/runs/{id}/cancel", "/webhooks", "/runs/batch/delete" }) do
      assert.is_true(takes[path], path)
    end
  end)
end)
