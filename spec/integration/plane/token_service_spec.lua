-- Credentials of the plane from a token service that really signs, for a runtime that really verifies.

local sys = require("host.sys")
local task = require("host.task")

local json = require("macp.core.json")
local minter = require("macp.plane.minter")

local eventually = require("spec.support.eventually")
local http_server = require("spec.support.http_server")
local issuers = require("spec.support.issuer")
local plane_rig = require("spec.support.plane_rig")

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

local issuer = issuers.new({ kid = "k1" })

-- A token service; `service.answer`, when set, answers instead. service.requests holds the bodies asked with.
local function start_service()
  local service = { requests = {} }
  local _, port = http_server.start({}, function(req, res)
    local body = json.decode(tostring(req.body))
    service.requests[#service.requests + 1] = { path = req.path, method = req.method, body = body }
    if service.wait_ms then task.sleep(service.wait_ms) end
    if service.answer then
      res:send(service.answer[1], { ["content-type"] = "application/json" }, service.answer[2])
      return
    end
    local token = issuer:token({ sub = body.sender, macp_scopes = body.scopes })
    res:send(200, { ["content-type"] = "application/json" },
      json.encode({ token = token, sender = body.sender, expires_in_seconds = service.lives_s }))
  end)
  service.url = "http://127.0.0.1:" .. port
  return service
end

local function new_minter(service, changes)
  local opts = { url = service.url .. "//", timeout_ms = 1000, ttl_s = 3600, sender = "plane", allow_private = true }
  for name, value in pairs(changes or {}) do opts[name] = value end
  return minter.new(opts)
end

describe("tokens of the token service", function()
  after_each(function() http_server.stop_all() end)

  it("are asked for once by all who wait, with what the plane may do, and used again", function()
    local service = start_service()
    service.wait_ms = 50
    local subject, got = new_minter(service, { can_manage = true }), {}
    local waiting = {}
    for i = 1, 5 do waiting[i] = task.spawn(function() got[i] = subject:get() end) end
    for i = 1, 5 do waiting[i]:join() end
    assert.equal(1, #service.requests)
    assert.same({ path = "/tokens", method = "POST", body = { sender = "plane", ttl_seconds = 3600,
      scopes = { can_start_sessions = false, is_observer = true, can_manage_mode_registry = true } } },
      service.requests[1])
    for i = 2, 5 do assert.equal(got[1], got[i]) end
    assert.equal(got[1], subject:get())
    assert.equal(1, #service.requests)
    subject:close()
  end)

  it("are made anew in the background before they end, and lived no longer than told", function()
    local service, now = start_service(), 0
    service.lives_s = 100 -- usable for 60 s, made anew after 48
    local subject = new_minter(service, { mono_ms = function() return now end })
    local first = subject:get()
    now = 47000
    assert.equal(first, subject:get())
    task.sleep(30)
    assert.equal(1, #service.requests)
    now = 49000
    assert.equal(first, subject:get()) -- nobody waits
    eventually(function() return #service.requests == 2 and subject.minting == nil end)
    service.answer = { 500, "away" }
    now = now + 61000
    assert.is_nil(subject:get())
    subject:close()
  end)

  it("are made anew at 80% of their life", function()
    local service, now = start_service(), 0
    service.lives_s = 3600
    local subject = new_minter(service, { mono_ms = function() return now end })
    local first = subject:get()
    now = 2879999
    assert.equal(first, subject:get())
    assert.is_nil(subject.minting)
    now = 2880000
    assert.equal(first, subject:get())
    eventually(function() return #service.requests == 2 and subject.minting == nil end)
    assert.equal(2, #service.requests)
    subject:close()
  end)

  it("P45: a service that is away is asked again after 2, 4, 8 ... 30 s and stalls nobody between", function()
    local service, now = start_service(), 0
    service.answer = { 503, "secret body" }
    local subject = new_minter(service, { mono_ms = function() return now end })
    for count, pause in ipairs({ 2000, 4000, 8000, 16000, 30000, 30000 }) do
      assert.is_nil(subject:get())
      assert.is_nil(subject:get())
      assert.equal(count, #service.requests)
      now = now + pause - 1
      assert.is_nil(subject:get())
      assert.equal(count, #service.requests)
      now = now + 1
    end
    service.answer = nil
    assert.is_string(subject:get())
    subject:close()
  end)

  it("a service that is slow costs one timeout, not one per call", function()
    local service, now = start_service(), 0
    service.wait_ms = 10000
    local subject = new_minter(service, { timeout_ms = 150, mono_ms = function() return now end })
    local began, waiting = sys.mono_ms(), {}
    for i = 1, 5 do waiting[i] = task.spawn(function() return subject:get() == nil end) end
    for i = 1, 5 do assert.is_true(waiting[i]:join()) end
    assert.is_nil(subject:get())
    assert.equal(1, #service.requests)
    assert.is_true(sys.mono_ms() - began < 10000)
    subject:close()
  end)

  it("a service whose answer never ends costs bounded memory and no token", function()
    local service = start_service()
    service.answer = { 200, '{"token":"' .. ("x"):rep(100000) .. '"}' }
    local subject = new_minter(service)
    assert.is_nil(subject:get())
    subject:close()
  end)

  it("are not taken from answers that hold none", function()
    local service, now = start_service(), 0
    local subject = new_minter(service, { mono_ms = function() return now end })
    for _, body in ipairs({ "no json", "[]", "{}", '{"token":""}', '{"token":7}', '{"token":"a b"}' }) do
      service.answer = { 200, body }
      assert.is_nil(subject:get())
      now = now + 30000
    end
    subject:close()
  end)

  it("carry the plane's calls to a runtime that verifies them; without them the static bearer does", function()
    local service = start_service()
    local rig = plane_rig.start({
      env = { MACP_AUTH_SERVICE_URL = service.url, MACP_AUTH_TOKEN_SENDER = "plane", RUNTIME_BEARER_TOKEN = "spare" },
      runtime_env = { MACP_AUTH_ISSUER = issuer.issuer, MACP_AUTH_JWKS_JSON = issuer:jwks(),
        MACP_AUTH_TOKENS_JSON = '[{"token":"spare","sender":"spare","is_observer":true,'
          .. '"can_manage_mode_registry":true}]' },
    })
    local function may_register()
      return (rig:post("/runtime/policies", { policyId = "team.t", mode = "macp.mode.decision.v1", description = "",
        rules = json.object({}) }))
    end
    assert.equal(403, may_register()) -- the token does not allow it
    assert.is_false(service.requests[1].body.scopes.can_start_sessions)
    assert.is_nil(service.requests[1].body.scopes.can_manage_mode_registry)
    service.answer = { 500, "{}" }
    rig.plane:close()
    rig.plane = rig:start_plane()
    assert.equal(200, may_register()) -- the spare one does
    rig:destroy()
  end)
end)
