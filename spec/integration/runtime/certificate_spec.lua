-- Client certificates as identities.

local certificates = require("spec.support.certificates")
local client = require("spec.support.runtime_client")

local crypto = require("host.crypto")
local fs = require("host.fs")
local rpc = require("host.rpc")

local STATUS = rpc.status
local AGENT = "spiffe://test/agent" -- the URI in client.pem

describe("a client certificate", function()
  local certs, ca, rig, channels

  setup(function()
    certs = assert(fs.temp_dir("macp-certs-"))
    certificates.make(certs)
    ca = assert(fs.read(certs .. "/ca.pem"))
  end)
  teardown(function() fs.remove_tree(certs) end)

  before_each(function() channels = {} end)
  after_each(function()
    for _, channel in ipairs(channels) do channel:close() end
    if rig then rig:destroy() end
    rig = nil
  end)

  local function start(env)
    local all = {
      MACP_ALLOW_INSECURE = false, MACP_TLS_CERT_PATH = certs .. "/server.pem", MACP_TLS_IDENTITY = "san-uri",
      MACP_TLS_KEY_PATH = certs .. "/server.key", MACP_TLS_CLIENT_CA_PATH = certs .. "/ca.pem",
      MACP_TLS_CLIENT_AUTH = "optional", MACP_AUTH_TOKENS_JSON = '[{"token":"t","sender":"boss","is_observer":true}]',
    }
    for name, value in pairs(env or {}) do all[name] = value end
    rig = assert(client.start({ env = all }))
  end

  -- Calls of a client with the named certificate.
  local function with(name)
    local tls = { roots_pem = ca }
    if name then
      tls.cert_pem, tls.key_pem = fs.read(certs .. "/" .. name .. ".pem"), fs.read(certs .. "/" .. name .. ".key")
    end
    local channel = assert(rpc.channel({
      target = "localhost:" .. rig.role.server:port(), tls = tls, own_connection = true,
    }))
    channels[#channels + 1] = channel
    return setmetatable({ channel = channel }, getmetatable(rig))
  end

  local function status_of(calls, token)
    local _, err = calls:call(token, "ListSessions")
    return err and err.status or 0
  end

  it("is the sender by the URI in it, whatever the token says, and needs no token", function()
    start()
    local agent = with("client")
    local id = crypto.uuid4()
    assert.is_true(agent:send("t", client.start_envelope(id)).ok)
    assert.equal(AGENT, agent:call(nil, "GetSession", { session_id = id }).metadata.initiator)
    assert.equal(AGENT, agent:call("wrong", "GetSession", { session_id = id }).metadata.initiator)
    local stream = agent:stream()
    stream:subscribe(id)
    assert.same({ "start" }, stream:ids(1))
    stream:cancel()
    -- no rights beyond those of a participant
    local other = crypto.uuid4()
    assert.is_true(with(nil):send("t", client.start_envelope(other)).ok)
    local _, err = agent:call("t", "GetSession", { session_id = other })
    assert.equal(STATUS.PERMISSION_DENIED, err.status)
  end)

  it("without a URI leaves the word to the token", function()
    start()
    for _, name in ipairs({ "no-name", false }) do
      local calls = with(name)
      assert.equal(0, status_of(calls, "t"))
      assert.equal(STATUS.UNAUTHENTICATED, status_of(calls, "wrong"))
      assert.equal(STATUS.UNAUTHENTICATED, status_of(calls, nil))
    end
  end)

  it("with two URIs is nobody", function()
    start()
    assert.equal(STATUS.UNAUTHENTICATED, status_of(with("two-names"), "t"))
  end)

  it("of another authority does not connect", function()
    start()
    assert.equal(STATUS.UNAVAILABLE, status_of(with("forged"), "t"))
  end)

  it("is enough of an authentication to start with, and no reason for development identities", function()
    start({ MACP_TLS_CLIENT_AUTH = "require", MACP_AUTH_TOKENS_JSON = false, MACP_ALLOW_INSECURE = "1" })
    assert.equal(0, status_of(with("client")))
    assert.equal(STATUS.UNAUTHENTICATED, status_of(with("no-name"), "anybody"))
    assert.equal(STATUS.UNAVAILABLE, status_of(with(nil), "anybody"))
  end)

  it("is no identity unless the settings say so", function()
    start({ MACP_TLS_IDENTITY = "bearer" })
    local agent = with("client")
    assert.equal(STATUS.UNAUTHENTICATED, status_of(agent))
    local id = crypto.uuid4()
    assert.is_true(agent:send("t", client.start_envelope(id)).ok)
    assert.equal("boss", agent:call("t", "GetSession", { session_id = id }).metadata.initiator)
  end)

  it("shows its URIs to handlers of host.rpc", function()
    local method = "/t.S/Uris"
    local server = assert(rpc.listen({ methods = { [method] = "unary" }, tls = {
      cert_pem = fs.read(certs .. "/server.pem"), key_pem = fs.read(certs .. "/server.key"), client_ca_pem = ca,
      client_auth = "optional",
    } }))
    server:serve(function(call) call:reply(table.concat(call:peer_uris() or { "none" }, " ")) end)
    for name, expected in pairs({
      client = AGENT, ["two-names"] = "spiffe://test/one spiffe://test/two", ["no-name"] = "none", [false] = "none",
    }) do
      local tls = { roots_pem = ca }
      if name then
        tls.cert_pem, tls.key_pem = fs.read(certs .. "/" .. name .. ".pem"), fs.read(certs .. "/" .. name .. ".key")
      end
      local channel = assert(rpc.channel({ target = "localhost:" .. server:port(), tls = tls, own_connection = true }))
      assert.equal(expected, channel:unary(method, "", { timeout_ms = 5000 }))
      channel:close()
    end
    server:close()
  end)
end)
