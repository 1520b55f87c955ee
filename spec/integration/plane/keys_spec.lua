-- Keys of callers over real HTTP: who is let in, as whom, and what happens when the file of keys changes.

local crypto = require("host.crypto")
local fetch = require("host.fetch")
local fs = require("host.fs")
local sys = require("host.sys")

local config = require("macp.config")
local json = require("macp.core.json")
local time = require("macp.core.time")
local metrics = require("macp.telemetry.metrics")

local eventually = require("spec.support.eventually")
local long_run = require("spec.support.long_run")
local plane_rig = require("spec.support.plane_rig")

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

local function hex(key) return crypto.hex(crypto.sha256(key)) end
local function as(key) return { authorization = "Bearer " .. key } end

local SHARED = ' reaches what all tenants share: it is for keys of the tenant "default"'

describe("API keys", function()
  local rig, path

  local function entry(name, key, members)
    local object = { name = name, sha256 = hex(key) }
    for member, value in pairs(members or {}) do object[member] = value end
    return object
  end

  local function write(entries)
    local list = json.array({})
    for i, object in ipairs(entries) do list[i] = object end
    assert(fs.write(path .. ".new", json.encode({ keys = list })))
    assert(fs.rename(path .. ".new", path))
  end

  setup(function()
    path = assert(fs.temp_dir("macp-keys-")) .. "/keys.json"
    write({ entry("acme", "acme-key", { tenant = "acme" }), entry("reader", "reader-key", { scopes = { "read" } }),
      entry("guest", "guest-key", { tenant = "acme", expires = time.iso(sys.now_ms() + 600000) }) })
    rig = plane_rig.start({ env = {
      AUTH_API_KEYS = "plain-key,ops:sha256:" .. hex("ops-key") .. ";scopes=admin", AUTH_API_KEYS_FILE = path,
    } })
  end)
  teardown(function()
    rig:destroy()
    fs.remove_tree(path:match("^(.*)/"))
  end)

  local function asked(...)
    local status, body = rig:request(...)
    return { status, body }
  end

  local function refusal(status, code, message, reason, metadata)
    return { status, { statusCode = status, errorCode = code, message = message, error = reason, metadata = metadata } }
  end

  it("close streams when they expire, and are refused from then on", function()
    local id = crypto.uuid4()
    assert.equal(202, (rig:post("/runs", plane_rig.descriptor(id), as("guest-key"))))
    local _, list = rig:get("/runs", as("guest-key"))
    assert.equal(1, #list.data)
    local stream = rig:stream("/runs/" .. list.data[1].id .. "/stream", as("guest-key"))
    local guest = rig.plane.keys.resolver.by_digest[crypto.sha256("guest-key")]
    guest.actor.expires_ms = sys.now_ms() -- ten minutes are over
    local frames = stream:read_all()
    assert.same({ "error", "Expired authorization token" }, { frames[#frames].event, frames[#frames].data })
    assert.is_true(stream.ended)
    eventually(function() return rig.plane.hub.count == 0 end, 10000, "nobody feeds it any more")
    assert.same(refusal(401, "UNAUTHENTICATED", "Expired authorization token", "Unauthorized"),
      asked("GET", "/runs", nil, as("guest-key")))
  end)

  it("cut what is being sent when they expire or are taken away", function()
    local id = long_run.insert(rig.db, 12000, 2000, "acme") -- more than any buffer on the way holds
    for _, case in ipairs({
      { "/export/stream", "guest-key", "expires_ms" }, { "/export?eventLimit=50000", "acme-key", "revoked" },
      { "/events?limit=5000", "guest-key", "expires_ms" }, { "/replay/stream?mode=instant", "acme-key", "revoked" },
    }) do
      local actor = rig.plane.keys.resolver.by_digest[crypto.sha256(case[2])].actor
      local before = case[3] == "expires_ms" and sys.now_ms() + 600000 or nil
      actor[case[3]] = before
      local reply = assert(fetch.open({ url = rig.plane.url .. "/runs/" .. id .. case[1], headers = as(case[2]),
        timeout_ms = 60000, max_body_bytes = 1073741824 }))
      assert.equal(200, reply.status)
      local bytes, tail = #tostring(reply:read()), ""
      local chunk
      actor[case[3]] = case[3] == "revoked" or sys.now_ms() -- as when its time is over, or its entry has gone
      repeat
        chunk = reply:read()
        tail = (tail .. tostring(chunk or "")):sub(-100)
        bytes = bytes + #tostring(chunk or "")
      until chunk == nil
      reply:close()
      actor[case[3]] = before
      assert.is_true(bytes < 12000 * 2000, case[1] .. ": " .. bytes)
      assert.is_nil(tail:find("]}$") or tail:find('"}}\n$'), case[1])
    end
    rig:rows("delete from runs where id = $1", id)
  end)

  it("are asked for, and refused with what is wrong", function()
    local invalid = "Invalid authorization token"
    for _, case in ipairs({ { nil, "Missing Authorization header" }, { "Bearer ", "Empty authorization token" },
      { "Bearer wrong", invalid }, { "Bearer " .. hex("ops-key"), invalid } }) do
      assert.same(refusal(401, "UNAUTHENTICATED", case[2], "Unauthorized"),
        asked("GET", "/runs", nil, { authorization = case[1] }))
    end
  end)

  it("may do what their scopes say", function()
    assert.equal(200, (rig:get("/runs", as("reader-key"))))
    assert.same(refusal(403, "FORBIDDEN", "missing scope runs:write", "Forbidden", { scope = "runs:write" }),
      asked("POST", "/runs", plane_rig.descriptor(crypto.uuid4()), as("reader-key")))
    assert.same(refusal(403, "FORBIDDEN", "missing scope admin:read", "Forbidden", { scope = "admin:read" }),
      asked("GET", "/admin/tasks", nil, as("reader-key")))
    assert.equal(200, (rig:get("/admin/tasks", as("ops-key"))))
    assert.equal(200, (rig:get("/admin/tasks", as("plain-key"))))
    assert.same(refusal(403, "FORBIDDEN", "admin:read" .. SHARED, "Forbidden", { scope = "admin:read" }),
      asked("GET", "/admin/tasks", nil, as("acme-key")))
  end)

  it("are named in audit entries, never shown", function()
    for _, key in ipairs({ "ops-key", "plain-key" }) do
      assert.equal(202, (rig:post("/runs", plane_rig.descriptor(crypto.uuid4()), as(key))))
    end
    local _, log = rig:get("/audit?action=run.created", as("ops-key"))
    assert.same({ hex("plain-key"):sub(1, 8), "ops" }, { log.data[1].actor, log.data[2].actor })
    assert.equal(2, log.total) -- the guest's is of another tenant
  end)

  it("follow their file, whose last good state stays in use", function()
    local function status_of(key) return (rig:get("/runs", as(key))) end
    local stream = rig:stream("/runs/" .. select(2, rig:get("/runs", as("acme-key"))).data[1].id .. "/stream",
      as("acme-key"))
    write({ entry("new", "new-key"), entry("reader", "reader-key", { scopes = { "read" } }) })
    eventually(function() return status_of("new-key") == 200 end, 10000, "the new key")
    local frames = stream:read_all()
    assert.equal("Invalid authorization token", frames[#frames].data)
    assert.same({ 401, 200, 200 }, { status_of("acme-key"), status_of("reader-key"), status_of("ops-key") })
    assert(fs.write(path, '{"keys":[{"name":"ops","sha256":"' .. hex("x") .. '"}]}'))
    eventually(function() return rig.plane.keys.rejected end, 10000, "the bad file")
    assert.equal("AUTH_API_KEYS_FILE: keys[1] (ops): the same name as AUTH_API_KEYS, entry 2 (ops)",
      rig.plane.keys.rejected)
    assert.same({ 200, 200 }, { status_of("new-key"), status_of("ops-key") })
    write({})
    eventually(function() return status_of("new-key") == 401 end, 10000, "no keys in the file")
    assert.equal(200, status_of("plain-key"))
  end)

  for _, case in ipairs({
    { { AUTH_API_KEYS = "x:sha256:1" }, "AUTH_API_KEYS, entry 1 (x): sha256: expected 64 hexadecimal digits" },
    { { AUTH_API_KEYS_FILE = "/nowhere/keys.json" },
      "AUTH_API_KEYS_FILE: open /nowhere/keys.json: No such file or directory" },
  }) do
    it("stop the start when they cannot be read: " .. case[2], function()
      local environ = { DATABASE_URL = rig.url, PORT = "0" }
      for name, value in pairs(case[1]) do environ[name] = value end
      local role, err = require("macp.plane").start(assert(config.load(environ)), { metrics = metrics.new() })
      assert.is_nil(role)
      assert.same({ "VALIDATION_ERROR", case[2] }, { err.code, err.message })
    end)
  end
end)
