-- Known secrets, a real program that uses all of them, and requests of every kind: none of the secrets is in what it
-- answers, logs, exports, counts or explains. Starts that fail tell nothing either.

local crypto = require("host.crypto")
local fetch = require("host.fetch")
local fs = require("host.fs")
local pg = require("host.pg")

local json = require("macp.core.json")

local eventually = require("spec.support.eventually")
local http_server = require("spec.support.http_server")
local plane_rig = require("spec.support.plane_rig")
local postgres = require("spec.support.postgres")
local program = require("spec.support.program")
local receiver = require("spec.support.receiver")

local SECRETS = {
  api_key = "plain-key-Qx7Zr2", entry_key = "entry-key-Lm4Vt9", wrong_key = "wrong-key-Hb3Wk8",
  webhook = "webhook-secret-Pd6Ny1", next_webhook = "webhook-secret-Gs5Uc7", bearer = "runtime-token-Tf8Ja3",
  minted = "minted-token-Ye2Ro6", launcher = "launcher-token-Cw9Ik4", database = "database-pass-Mz1Xv5",
  callback = "callback-bearer-Kn7Bq2",
}

local TOKENS = json.encode(json.array({
  { token = SECRETS.minted, sender = "plane", is_observer = true }, { token = SECRETS.bearer, sender = "plane" },
  { token = SECRETS.launcher, sender = "boss" },
}))

-- Fails when a text holds a secret, also one that was encoded.
local function assert_clean(where, text)
  for name, secret in pairs(SECRETS) do
    for _, form in ipairs({ secret, crypto.base64_encode(secret), crypto.hex(secret) }) do
      local at = text:find(form, 1, true)
      assert.is_nil(at, at and where .. " shows " .. name .. ": " .. text:sub(math.max(1, at - 200), at + 20))
    end
  end
end

describe("secrets", function()
  local dir, stop_database, url, db, runtime, plane, base, hooks, minting, env

  local function environment(more)
    local all = {
      MACP_ENV = false, NODE_ENV = false, PORT = "0", HOST = "127.0.0.1", LOG_LEVEL = false, MACP_LOG_LEVEL = "debug",
      DATABASE_URL = url .. " password='" .. SECRETS.database .. "'", RUNTIME_BEARER_TOKEN = SECRETS.bearer,
      AUTH_API_KEYS = SECRETS.api_key .. ",ops:sha256:" .. crypto.hex(crypto.sha256(SECRETS.entry_key)),
      LAUNCHER_ENABLED = "1", LAUNCHER_BEARER_TOKEN = SECRETS.launcher, THROTTLE_LIMIT = "1000000",
      MACP_AUTH_TOKENS_JSON = TOKENS, MACP_ALLOW_INSECURE = "1", MACP_BIND_ADDR = "127.0.0.1:0",
      MACP_DATA_DIR = dir .. "/data", WEBHOOK_TIMEOUT_MS = "1000",
    }
    for name, value in pairs(more or {}) do all[name] = value end
    return all
  end

  setup(function()
    dir = assert(fs.temp_dir("macp-secrets"))
    local cluster_stop
    url, cluster_stop = postgres.database()
    stop_database = cluster_stop
    assert(not url:find("://", 1, true), "the spec writes a password into a keyword string")
    db = assert(pg.open({ conninfo = url, size = 1 }))
    hooks = receiver.start()
    local _, port = http_server.start({}, function(_, res)
      minting = true
      res:send(200, { ["content-type"] = "application/json" },
        json.encode({ token = SECRETS.minted, expires_in_seconds = 3600 }))
    end)
    runtime = program.start({ args = { "runtime" }, env = environment(), keep = 100000 })
    local address = runtime:wait_line("ready.*runtime (127%.0%.0%.1:%d+)")
    env = environment({ RUNTIME_ADDRESS = address, MACP_AUTH_SERVICE_URL = "http://127.0.0.1:" .. port })
    plane = program.start({ args = { "serve", "--role", "plane" }, env = env, keep = 100000 })
    base = plane:wait_line("ready.*plane (http://127%.0%.0%.1:%d+)")
  end)

  teardown(function()
    for _, running in ipairs({ plane, runtime }) do
      if not running.status then
        running:kill("TERM")
        running:wait(20000)
      end
    end
    db:close()
    hooks:close()
    http_server.stop_all()
    stop_database()
    fs.remove_tree(dir)
  end)

  -- One request; the reply is clean, whatever it says.
  local function ask(method, path, body, key, headers)
    local sent = { ["content-type"] = "application/json", authorization = key and "Bearer " .. key or nil }
    for name, value in pairs(headers or {}) do sent[name] = value end
    local reply, err = fetch.request({ url = base .. path, method = method, headers = sent, timeout_ms = 20000,
      body = type(body) == "table" and json.encode(body) or body, max_body_bytes = 64 * 1024 * 1024 })
    assert(reply, err and err.message)
    local text = tostring(reply.body or "")
    assert_clean(method .. " " .. path, text .. json.encode(reply.headers))
    return reply.status, json.decode(text), text
  end

  local function good(method, path, body) return ask(method, path, body, SECRETS.api_key) end

  it("are not in answers to nonsense of every route", function()
    local _, document = ask("GET", "/docs-json")
    local count = 0
    for path, methods in pairs(document.paths) do
      for method in pairs(methods) do
        local name, asked = method:upper(), path:gsub("{[^}]*}", crypto.uuid4())
        for _, key in ipairs({ SECRETS.wrong_key, SECRETS.entry_key, SECRETS.api_key }) do
          ask(name, asked, '{"nonsense":[{}]}', key)
          ask(name, (path:gsub("{[^}]*}", "no-id")), nil, key)
          ask(name, asked, "{", key)
        end
        ask(name, asked, nil, nil)
        count = count + 1
      end
    end
    assert.is_true(count > 40)
  end)

  it("P30: are not in what their use leaves behind", function()
    local status, hook = good("POST", "/webhooks", { url = hooks.url, secret = SECRETS.webhook })
    assert.equal(201, status)
    status = good("POST", "/webhooks", { url = "http://127.0.0.1:1/closed", secret = SECRETS.webhook })
    assert.equal(201, status)
    assert.equal(200, (good("PATCH", "/webhooks/" .. hook.id, { secret = SECRETS.next_webhook })))
    assert.equal(200, (good("POST", "/webhooks/" .. hook.id .. "/test")))

    local runs = {}
    for i, target in ipairs({ hooks.url, "http://127.0.0.1:1/closed" }) do
      local body = plane_rig.descriptor(crypto.uuid4())
      body.session.metadata = { cancelCallback = { url = target, bearer = SECRETS.callback } }
      body.session.initiatorParticipantId = "boss"
      local code, accepted = ask("POST", "/runs", body, SECRETS.entry_key)
      assert.equal(202, code)
      runs[i] = accepted.runId
      eventually(function()
        local _, run = good("GET", "/runs/" .. accepted.runId)
        return run.status == "running" or run.status == "failed" and error(run.errorMessage), run.status
      end, 20000, "run " .. i)
    end
    assert.equal(200, (good("POST", "/runs/" .. runs[1] .. "/cancel")))
    assert.equal(502, (good("POST", "/runs/" .. runs[2] .. "/cancel")))
    assert.equal(202, (good("POST", "/runs/" .. runs[1] .. "/clone")))

    -- All of them were used.
    assert.is_true(minting)
    local used = eventually(function()
      local found = {}
      for _, request in ipairs(hooks.requests) do
        found[request.headers.authorization and "callback" or "webhook"] = request
      end
      return found.callback and found.webhook and found
    end, 20000, "callback and webhook")
    assert.equal("Bearer " .. SECRETS.callback, used.callback.headers.authorization)
    assert_clean("the webhook", used.webhook.body .. json.encode(used.webhook.headers))

    for _, path in ipairs({ "/runs", "/runs/" .. runs[1], "/runs/" .. runs[1] .. "/export?includeRaw=true",
      "/runs/" .. runs[1] .. "/export/stream?includeRaw=true", "/runs/" .. runs[1] .. "/events", "/audit", "/metrics",
      "/docs-json", "/webhooks", "/webhooks/" .. hook.id, "/webhooks/" .. hook.id .. "/deliveries", "/readyz",
      "/admin/tasks", "/admin/modes", "/runs?limit=1&api_key=" .. SECRETS.entry_key,
      "/healthz?Token=" .. SECRETS.bearer, "/dashboard/overview", "/runtime/health",
      "/runs/" .. runs[1] .. "/stream?includeSnapshot=true&token=" .. SECRETS.api_key }) do
      assert.equal(200, (good("GET", path)), path)
    end
    -- Where they must be and nowhere else: two columns.
    local tables = assert(db:query("select table_name as name from information_schema.tables "
      .. "where table_schema = 'public'")).rows
    for _, found in ipairs(tables) do
      local rows = assert(db:query("select (to_jsonb(t) - 'secret' - 'previous_secret' - 'cancel_callback')::text "
        .. "as row from " .. found.name .. " t")).rows
      for _, row in ipairs(rows) do assert_clean("table " .. found.name, row.row) end
    end
  end)

  it("are not in what `macp config` says", function()
    for _, args in ipairs({ { "config" }, { "config", "--json" } }) do
      local child = program.start({ args = args, env = env, keep = 100000 })
      assert.equal(0, child:wait(20000).code)
      assert.truthy(child:output():find("********", 1, true))
      assert_clean("macp config", child:output())
    end
  end)

  for name, case in pairs({
    ["a database that is not there"] = { code = 1, args = { "serve", "--role", "plane" },
      changes = { DATABASE_URL = "postgres://macp:" .. SECRETS.database .. "@127.0.0.1:1/none" } },
    ["a key entry that is wrong"] = { code = 2, args = { "serve", "--role", "plane" },
      changes = { AUTH_API_KEYS = SECRETS.api_key .. ",ops:sha256:" .. SECRETS.entry_key } },
    ["tokens that are wrong"] = { code = 2, args = { "runtime" },
      changes = { MACP_AUTH_TOKENS_JSON = '[{"token":"' .. SECRETS.minted .. '"}]' } },
    ["production"] = { code = 2, args = { "serve", "--role", "plane" },
      changes = { MACP_ENV = "production", LAUNCHER_BEARER_TOKEN = SECRETS.bearer } },
  }) do
    it("are not in the end of a start with " .. name, function()
      local child = program.start({ args = case.args, env = environment(case.changes), keep = 100000 })
      local status = child:wait(30000)
      assert.equal(case.code, status.code, child:output())
      assert_clean(name, child:output())
    end)
  end

  it("are not in the logs of all that", function()
    for _, running in ipairs({ plane, runtime }) do
      running:kill("TERM")
      assert.equal(0, running:wait(20000).code)
    end
    assert.truthy(plane:output():find('"level":"debug"', 1, true))
    assert.truthy(plane:output():find("webhook", 1, true))
    assert.truthy(plane:output():find("/stream", 1, true))
    assert.truthy(plane:output():find("/runs?limit=1&api_key=********", 1, true))
    assert_clean("the log of the plane", plane:output())
    assert_clean("the log of the runtime", runtime:output())
  end)
end)

-- Addresses inside the network are closed to what callers and settings name, unless that is allowed.
describe("a plane that guards its network", function()
  local rig, stop_database, target

  setup(function()
    stop_database = plane_rig.share_database()
    target = receiver.start()
    rig = plane_rig.start({ env = { OUTBOUND_ALLOW_PRIVATE = "false", MACP_AUTH_SERVICE_URL = target.url } })
  end)
  teardown(function()
    rig:destroy()
    target:close()
    stop_database()
  end)

  it("P31: calls back to no private, loopback or metadata address, and mints no token there", function()
    local function announce(path, host)
      local body = plane_rig.descriptor(crypto.uuid4())
      body.session.metadata = { cancelCallback = { url = "http://" .. host .. "/stop" } }
      local status, told = rig:post(path, body)
      return status, told, body.session.sessionId
    end
    local refused = "session.metadata.cancelCallback.url must not point to a private, loopback or metadata address"
    for _, host in ipairs({ "127.0.0.1:" .. target.port, "[::1]:" .. target.port, "169.254.169.254", "10.0.0.1",
      "0.0.0.0:" .. target.port }) do
      local status, problem = announce("/runs", host)
      assert.same({ 400, "VALIDATION_ERROR", { refused } }, { status, problem.errorCode, problem.message })
      local _, told = announce("/runs/validate", host)
      assert.same({ false, { refused } }, { told.valid, told.errors })
    end
    local _, accepted, id = announce("/runs", "localhost:" .. target.port) -- what a name leads to is seen later
    rig:open_session(id)
    rig:await(accepted.runId, "running")
    local status, problem = rig:post("/runs/" .. accepted.runId .. "/cancel")
    assert.same({ 502, "INTERNAL_ERROR" }, { status, problem.errorCode })
    assert.truthy(problem.message:find("^cancel callback failed: .*is not public"), problem.message)
    rig:await(accepted.runId, "running")
    assert.equal(0, #target.requests)
  end)
end)
