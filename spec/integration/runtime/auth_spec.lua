-- Authentication over real gRPC: who a credential is and what it may do, for every kind of credential.

local client = require("spec.support.runtime_client")

local crypto = require("host.crypto")
local fs = require("host.fs")
local rpc = require("host.rpc")

local json = require("macp.core.json")
local messages = require("macp.protocol.messages")

local issuer = require("spec.support.issuer")

local UNAUTHENTICATED = rpc.status.UNAUTHENTICATED

describe("credentials of the runtime", function()
  local rig

  local function start(env)
    rig = assert(client.start({ env = env }))
    return rig
  end
  after_each(function()
    if rig then rig:destroy() end
    rig = nil
  end)

  local function status_of(token, method, request)
    local response, err = rig:call(token, method, request)
    return response and 0 or err.status, err and err.message
  end

  -- The status of ListSessions with raw metadata.
  local function status_with(metadata)
    local _, err = rig.channel:unary(messages.rpc("ListSessions").path, "", { metadata = metadata, timeout_ms = 5000 })
    return err and err.status or 0
  end

  local function start_session(token, fields, changes)
    local id = crypto.uuid4()
    return rig:send(token, client.start_envelope(id, fields, changes)), id
  end

  local function proposal(id, message_id)
    return client.envelope({
      session_id = id, message_id = message_id or crypto.uuid4(),
      payload = client.payload("macp.modes.decision.v1.ProposalPayload", { proposal_id = "p1", option = "one" }),
    })
  end

  it("are taken from authorization before x-macp-token", function()
    start({ MACP_AUTH_TOKENS_JSON = '[{"token":"t","sender":"ann"}]' })
    for _, case in ipairs({
      { { authorization = "Bearer t" }, 0 }, { { ["x-macp-token"] = "t" }, 0 },
      { { authorization = "Bearer t", ["x-macp-token"] = "wrong" }, 0 },
      { { authorization = "Bearer wrong", ["x-macp-token"] = "t" }, UNAUTHENTICATED },
      { { authorization = "Bearer ", ["x-macp-token"] = "t" }, UNAUTHENTICATED },
      { { authorization = "Basic eDp5", ["x-macp-token"] = "t" }, 0 },
      { { authorization = "bearer t" }, UNAUTHENTICATED }, { { authorization = "t" }, UNAUTHENTICATED },
      { { ["x-macp-token"] = "" }, UNAUTHENTICATED }, { {}, UNAUTHENTICATED },
    }) do
      assert.equal(case[2], status_with(case[1]), json.encode(case[1]))
    end
  end)

  it("answer Send with an ack and everything else with a status, and say no more than that they are bad", function()
    start({ MACP_AUTH_TOKENS_JSON = '[{"token":"t","sender":"ann"}]' })
    for token, text in pairs({
      wrong = "Unauthenticated: the credential is not valid", [false] = "Unauthenticated: no credential",
    }) do
      local ack = start_session(token or nil)
      assert.same({ false, "UNAUTHENTICATED", text }, { ack.ok, ack.error.code, ack.error.message })
      for _, method in ipairs({ "GetSession", "ListSessions", "CancelSession", "SuspendSession", "ResumeSession" }) do
        assert.same({ UNAUTHENTICATED, text }, { status_of(token or nil, method) })
      end
      for _, method in ipairs({ "WatchSessions", "WatchSignals" }) do
        local _, err = rig:watch(token or nil, method):read()
        assert.same({ UNAUTHENTICATED, text }, { err.status, err.message })
      end
      local _, err = rig:stream(token or nil):read()
      assert.same({ UNAUTHENTICATED, text }, { err.status, err.message })
    end
  end)

  it("are not asked for by discovery, and bad ones do not matter there", function()
    start({ MACP_AUTH_TOKENS_JSON = '[{"token":"t","sender":"ann"}]' })
    for _, token in ipairs({ "wrong", "a.b.c" }) do
      for _, method in ipairs({ "ListModes", "ListExtModes", "GetManifest" }) do
        assert.equal(0, (status_of(token, method)))
        assert.equal(0, (status_of(nil, method)))
      end
      assert.equal(0, (status_of(token, "Initialize", { supported_protocol_versions = { "1.0" } })))
    end
  end)

  it("of development are their own sender; an empty one is nobody", function()
    start({})
    local ack, id = start_session("agent://a.b")
    assert.is_true(ack.ok)
    assert.equal("agent://a.b", rig:call("agent://a.b", "GetSession", { session_id = id }).metadata.initiator)
    assert.equal(rpc.status.PERMISSION_DENIED, (status_of("stranger", "GetSession", { session_id = id })))
    assert.equal(0, status_with({ ["x-macp-token"] = "who" }))
    assert.equal(UNAUTHENTICATED, status_with({ authorization = "Bearer " }))
    assert.equal(UNAUTHENTICATED, status_with({ authorization = "Bearer  " }))
  end)

  it("of development end as soon as anything else is configured", function()
    start({ MACP_AUTH_TOKENS_JSON = '[{"token":"t","sender":"ann"}]', MACP_ALLOW_INSECURE = "1" })
    assert.equal(UNAUTHENTICATED, (status_of("ann", "ListSessions")))
  end)

  it("that list nothing count as not configured", function()
    start({ MACP_AUTH_TOKENS_JSON = '{"tokens":[]}' })
    assert.equal(0, (status_of("anybody", "ListSessions")))
  end)

  it("of development end when tokens appear in the file, and do not come back when those go", function()
    local dir = assert(fs.temp_dir("macp-tokens-"))
    local path = dir .. "/tokens.json"
    assert(fs.write(path, "[]"))
    start({ MACP_AUTH_TOKENS_FILE = path })
    assert.equal(0, (status_of("anybody", "ListSessions")))
    local watch = rig:watch("anybody", "WatchSignals")
    for _, list in ipairs({ '[{"token":"t","sender":"ann"}]', "[]" }) do
      assert(fs.write(path, list))
      rig.role:reload()
      assert.equal(UNAUTHENTICATED, (status_of("anybody", "ListSessions")))
    end
    local _, err = watch:read()
    assert.equal(UNAUTHENTICATED, err.status)
    fs.remove_tree(dir)
  end)

  it("from a file of more than 4 MiB are not read", function()
    local dir = assert(fs.temp_dir("macp-tokens-"))
    local path = dir .. "/tokens.json"
    assert(fs.write(path, "[" .. (" "):rep(4 * 1024 * 1024) .. "]"))
    local _, err = client.start({ env = { MACP_AUTH_TOKENS_FILE = path } })
    assert.same({ "MACP_AUTH_TOKENS_FILE: " .. path .. " is larger than 4194304 bytes" }, err.message)
    assert(fs.write(path, '[{"token":"t","sender":"ann"}]'))
    start({ MACP_AUTH_TOKENS_FILE = path })
    assert(fs.write(path, "[" .. (" "):rep(4 * 1024 * 1024) .. "]"))
    rig.role:reload()
    assert.equal(0, (status_of("t", "ListSessions")))
    fs.remove_tree(dir)
  end)

  it("inline win over the file", function()
    start({ MACP_AUTH_TOKENS_JSON = '[{"token":"inline","sender":"a"}]', MACP_AUTH_TOKENS_FILE = "/nonexistent" })
    assert.equal(0, (status_of("inline", "ListSessions")))
  end)

  describe("carry rights:", function()
    local TOKENS = json.encode({
      { token = "boss", sender = "boss" },
      { token = "reader", sender = "reader", can_start_sessions = false, is_observer = true },
      { token = "task", sender = "tasker", allowed_modes = { "macp.mode.task.v1", "" } },
      { token = "all", sender = "all", allowed_modes = { "*" } },
      { token = "none", sender = "ann", allowed_modes = { "" } },
      { token = "two", sender = "two", max_open_sessions = 2 },
      { token = "zero", sender = "zero", max_open_sessions = 0 },
    })

    local function code_of(ack) return ack.ok and "ok" or ack.error.code end

    before_each(function() start({ MACP_AUTH_TOKENS_JSON = TOKENS }) end)

    it("can_start_sessions", function()
      local ack = start_session("reader")
      assert.equal("FORBIDDEN", code_of(ack))
      assert.equal("ok", code_of((start_session("boss"))))
    end)

    it("allowed_modes, on sends and on streams, not on signals", function()
      assert.equal("FORBIDDEN", code_of((start_session("task"))))
      assert.equal("FORBIDDEN", code_of((start_session("none"))))
      assert.equal("ok", code_of((start_session("all"))))
      local _, id = start_session("boss")
      assert.equal("FORBIDDEN", code_of(rig:send("none", proposal(id))))
      local stream = rig:stream("none")
      stream:write({ envelope = proposal(id) })
      assert.equal("FORBIDDEN", stream:read().error.code)
      stream:cancel()
      assert.equal(0, (status_of("none", "GetSession", { session_id = id })))
      local signal = client.envelope({
        mode = "", message_type = "Signal",
        payload = client.payload("macp.v1.SignalPayload", { signal_type = "hint" }),
      })
      assert.equal("ok", code_of(rig:send("task", signal)))
    end)

    it("max_open_sessions, counted per initiator", function()
      assert.equal("RATE_LIMITED", code_of((start_session("zero"))))
      local _, first = start_session("two")
      assert.equal("ok", code_of((start_session("two"))))
      for _ = 1, 3 do assert.equal("ok", code_of((start_session("boss"))) ) end
      assert.equal("RATE_LIMITED", code_of((start_session("two"))))
      assert.is_true(rig:call("two", "CancelSession", { session_id = first }).ack.ok)
      assert.equal("ok", code_of((start_session("two"))))
      assert.equal("RATE_LIMITED", code_of((start_session("two"))))
    end)

    it("is_observer: to read and to subscribe, not to send", function()
      local _, id = start_session("boss")
      assert.equal(0, (status_of("reader", "GetSession", { session_id = id })))
      assert.equal(rpc.status.PERMISSION_DENIED, (status_of("all", "GetSession", { session_id = id })))
      local stream = rig:stream("reader")
      stream:subscribe(id)
      assert.same({ "start" }, stream:ids(1))
      stream:cancel()
      stream = rig:stream("all")
      stream:subscribe(id)
      assert.same({ "error FORBIDDEN" }, stream:ids(1))
      stream:cancel()
      assert.equal("FORBIDDEN", code_of(rig:send("reader", proposal(id))))
    end)
  end)

  describe("that are signed", function()
    local SYMMETRIC = { kty = "oct", k = "c3ltbWV0cmljLXNlY3JldC1vZi10aGUtc3BlYy0wMDAwMDA+Pz8=" } -- base64, padded

    local function symmetric() return issuer.new({ alg = "HS256", key = SYMMETRIC }) end

    local function env_of(company, more)
      local env = {
        MACP_AUTH_ISSUER = company.issuer, MACP_AUTH_JWKS_JSON = company:jwks(), MACP_AUTH_JWT_ALGS = company.alg,
      }
      for name, value in pairs(more or {}) do env[name] = value or nil end
      return env
    end

    local function code_of(token)
      local ack = start_session(token)
      return ack.ok and "ok" or ack.error.code
    end

    it("name the initiator, and are refused in every way the protocol knows", function()
      local company = symmetric()
      start(env_of(company))
      local ack, id = start_session(company:token({ sub = "agent://signed" }))
      assert.is_true(ack.ok)
      assert.equal("agent://signed",
        rig:call(company:token({ sub = "agent://signed" }), "GetSession", { session_id = id }).metadata.initiator)
      local forged = { kty = "oct", k = "Zm9yZ2VkLXNlY3JldC1mb3JnZWQtc2VjcmV0LWZvcg==" }
      local forger = issuer.new({ alg = "HS256", key = forged })
      for name, token in pairs({
        expired = company:token({ exp = 1000000000 }), issuer = company:token({ iss = "https://other.test" }),
        audience = company:token({ aud = "other" }), forged = forger:token(), opaque = "opaque", empty = "",
        subject = company:token({ sub = "" }), early = company:token({ nbf = 4000000000 }),
        unsigned = company:token():match("^(.*%.)"), garbled = company:token():sub(1, -5) .. "AAAA",
        scopes = company:token({ macp_scopes = { is_observer = 1 } }),
      }) do
        assert.equal("UNAUTHENTICATED", code_of(token), name)
      end
      assert.equal("UNAUTHENTICATED", code_of(nil))
      assert.equal(UNAUTHENTICATED, status_with({ ["x-macp-token"] = company:token() }))
    end)

    it("are refused with HS256 unless that is allowed", function()
      local company = symmetric()
      start(env_of(company, { MACP_AUTH_JWT_ALGS = false }))
      assert.equal(UNAUTHENTICATED, (status_of(company:token(), "ListSessions")))
    end)

    for _, alg in ipairs({ "RS256", "ES256" }) do
      it("are accepted with " .. alg .. " by default, chosen by kid", function()
        local company, old = issuer.new({ alg = alg, kid = "now" }), issuer.new({ alg = alg, kid = "old" })
        start(env_of(company, { MACP_AUTH_JWT_ALGS = false, MACP_AUTH_JWKS_JSON = old:jwks(company) }))
        assert.equal("ok", code_of(company:token()))
        assert.equal("ok", code_of(old:token()))
        assert.equal("UNAUTHENTICATED", code_of(issuer.new({ alg = alg, kid = "new" }):token()))
      end)
    end

    it("take algorithms in any case, ignore unknown ones, and fall back to the default", function()
      local company = symmetric()
      start(env_of(company, { MACP_AUTH_JWT_ALGS = "none, hs256 ,PS512" }))
      assert.equal("ok", code_of(company:token()))
      rig:destroy()
      start(env_of(company, { MACP_AUTH_JWT_ALGS = "none" }))
      assert.equal("UNAUTHENTICATED", code_of(company:token()))
    end)

    it("stand beside static tokens", function()
      local company = symmetric()
      local tokens = '[{"token":"t","sender":"ann"},{"token":"a.b","sender":"eve"}]'
      start(env_of(company, { MACP_AUTH_TOKENS_JSON = tokens }))
      assert.equal("ok", code_of(company:token()))
      assert.equal("ok", code_of("t"))
      assert.equal("UNAUTHENTICATED", code_of("a.b"))
      assert.equal("UNAUTHENTICATED", code_of("other"))
    end)

    it("carry the rights of macp_scopes", function()
      local company = symmetric()
      start(env_of(company, { MACP_AUTH_AUDIENCE = "us" }))
      local function token(sub, scopes)
        return company:token({ sub = sub, aud = { "us", "them" }, macp_scopes = scopes })
      end
      local ack, id = start_session(token("boss"))
      assert.is_true(ack.ok)
      assert.equal("FORBIDDEN", code_of(token("a", { can_start_sessions = false })))
      assert.equal("FORBIDDEN", code_of(token("a", { allowed_modes = { "macp.mode.task.v1" } })))
      assert.equal("RATE_LIMITED", code_of(token("a", { max_open_sessions = 0 })))
      assert.equal("ok", code_of(token("a", { allowed_modes = json.array({}) })))
      assert.equal(0, (status_of(token("spy", { is_observer = true }), "GetSession", { session_id = id })))
      assert.equal(rpc.status.PERMISSION_DENIED, (status_of(token("spy"), "GetSession", { session_id = id })))
      assert.equal(UNAUTHENTICATED, (status_of(company:token(), "ListSessions")))
      for method, request in pairs({
        RegisterPolicy = {
          policy_descriptor = { policy_id = "policy.spec", mode = "*", rules = "{}", schema_version = 1 },
        },
        UnregisterPolicy = { policy_id = "policy.spec" }, UnregisterExtMode = { mode = "ext.none.v1" },
        PromoteMode = { mode = "ext.none.v1" }, RegisterExtMode = { mode_descriptor = { mode = "ext.none.v1" } },
      }) do
        assert.equal(rpc.status.PERMISSION_DENIED, (status_of(token("a"), method, request)), method)
        assert.equal(0, (status_of(token("a", { can_manage_mode_registry = true }), method, request)), method)
      end
    end)

    it("follow a file of keys that changes, and keep the old keys when it turns bad", function()
      local company, newer = issuer.new({ alg = "HS256", kid = "a" }), issuer.new({ alg = "HS256", kid = "b" })
      local dir = assert(fs.temp_dir("macp-jwks-"))
      assert(fs.write(dir .. "/jwks.json", company:jwks()))
      start(env_of(company, { MACP_AUTH_JWKS_JSON = false, MACP_AUTH_JWKS_FILE = dir .. "/jwks.json" }))
      assert.equal("ok", code_of(company:token()))
      assert.equal("UNAUTHENTICATED", code_of(newer:token()))
      assert(fs.write(dir .. "/jwks.json", newer:jwks()))
      rig.role:reload()
      assert.equal("ok", code_of(newer:token()))
      assert.equal("UNAUTHENTICATED", code_of(company:token()))
      assert(fs.write(dir .. "/jwks.json", "{"))
      rig.role:reload()
      assert.equal("ok", code_of(newer:token()))
      fs.remove_tree(dir)
    end)
  end)
end)

describe("W32: a role with credentials that cannot work", function()
  local function refused(env)
    local rig, err = client.start({ env = env })
    if rig then rig:destroy() end
    local message = err and err.message -- of a bad configuration: a list
    return type(message) == "table" and table.concat(message, "\n") or message
  end

  local WITH_ISSUER = { MACP_AUTH_ISSUER = "https://issuer.test" }
  for _, case in ipairs({
    { "an issuer without keys", {},
      "MACP_AUTH_ISSUER: the issuer's keys are missing: set MACP_AUTH_JWKS_JSON, MACP_AUTH_JWKS_FILE or "
      .. "MACP_AUTH_JWKS_URL" },
    { "inline keys that are no set", { MACP_AUTH_JWKS_JSON = "[]" },
      "MACP_AUTH_JWKS_JSON: must be an object with an array `keys`" },
    { "inline keys of which none is usable", { MACP_AUTH_JWKS_JSON = '{"keys":[{"kty":"oct"}]}' },
      "MACP_AUTH_JWKS_JSON: has no usable key (keys[1]: k is missing)" },
    { "a file of keys that is not there", { MACP_AUTH_JWKS_FILE = "/nonexistent" },
      "MACP_AUTH_JWKS_FILE: open /nonexistent: No such file or directory" },
    { "a URL of keys that is none", { MACP_AUTH_JWKS_URL = "issuer.test/jwks.json" },
      "MACP_AUTH_JWKS_URL: must be an http or https URL" },
    { "identities of certificates nobody asks for", {
      MACP_TLS_IDENTITY = "san-uri", MACP_AUTH_JWKS_JSON = '{"keys":[{"kty":"oct","k":"AAAA"}]}',
    }, "MACP_TLS_IDENTITY: san-uri needs MACP_TLS_CERT_PATH, MACP_TLS_KEY_PATH and MACP_TLS_CLIENT_AUTH optional or "
      .. "require" },
    { "two problems", { MACP_AUTH_JWKS_JSON = "{}", MACP_AUTH_TOKENS_JSON = "[7]" },
      "MACP_AUTH_JWKS_JSON: must be an object with an array `keys`\n"
      .. "MACP_AUTH_TOKENS_JSON: tokens[1]: must be an object" },
  }) do
    it("does not start: " .. case[1], function()
      local env = {}
      for name, value in pairs(WITH_ISSUER) do env[name] = value end
      for name, value in pairs(case[2]) do env[name] = value end
      assert.equal(case[3], refused(env))
      -- static tokens do not hide it
      env.MACP_AUTH_TOKENS_JSON = env.MACP_AUTH_TOKENS_JSON or '[{"token":"t","sender":"s"}]'
      assert.equal(case[3], refused(env))
    end)
  end
end)
