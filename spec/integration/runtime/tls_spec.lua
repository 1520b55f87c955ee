local certificates = require("spec.support.certificates")
local client = require("spec.support.runtime_client")

local fs = require("host.fs")
local rpc = require("host.rpc")

local eventually = require("spec.support.eventually")
local messages = require("macp.protocol.messages")

describe("the gRPC interface over TLS", function()
  local certs, ca

  setup(function()
    certs = assert(fs.temp_dir("macp-certs-"))
    certificates.make(certs)
    ca = assert(fs.read(certs .. "/ca.pem"))
  end)
  teardown(function() fs.remove_tree(certs) end)

  local function start(env)
    local all = {
      MACP_ALLOW_INSECURE = false, MACP_AUTH_TOKENS_JSON = '[{"token":"t","sender":"boss"}]',
      MACP_TLS_CERT_PATH = certs .. "/server.pem", MACP_TLS_KEY_PATH = certs .. "/server.key",
    }
    for name, value in pairs(env or {}) do all[name] = value end
    return client.start({ env = all })
  end

  -- The status of one GetSession over the given TLS options: 5 (unknown session) proves a working connection.
  local function ask(rig, tls)
    local channel = assert(rpc.channel({
      target = "localhost:" .. rig.role.server:port(), tls = tls, own_connection = true,
    }))
    local _, err = channel:unary(messages.rpc("GetSession").path, "",
      { metadata = { authorization = "Bearer t" }, timeout_ms = 3000 })
    channel:close()
    return err.status
  end

  it("serves those who trust its authority, and nobody in plain text", function()
    local rig = assert(start())
    assert.equal(rpc.status.NOT_FOUND, ask(rig, { roots_pem = ca }))
    assert.equal(rpc.status.UNAVAILABLE, ask(rig, nil))
    rig:destroy()
  end)

  it("asks for client certificates when told so", function()
    local rig = assert(start({ MACP_TLS_CLIENT_AUTH = "require", MACP_TLS_CLIENT_CA_PATH = certs .. "/ca.pem" }))
    local own = { roots_pem = ca }
    own.cert_pem, own.key_pem = fs.read(certs .. "/client.pem"), fs.read(certs .. "/client.key")
    assert.equal(rpc.status.NOT_FOUND, ask(rig, own))
    assert.equal(rpc.status.UNAVAILABLE, ask(rig, { roots_pem = ca }))
    rig:destroy()
  end)

  it("does not start with settings that cannot work, and names all of them", function()
    local rig, err = start({ MACP_TLS_CERT_PATH = certs .. "/none.pem", MACP_TLS_CLIENT_AUTH = "require",
      MACP_TLS_KEY_PATH = certs .. "/missing.key", MACP_AUTH_TOKENS_JSON = false })
    assert.is_nil(rig)
    assert.equal("VALIDATION_ERROR", err.code)
    assert.equal(4, #err.message, table.concat(err.message, "\n"))
    assert.matches("^no authentication configured: ", err.message[1])
    assert.matches("^MACP_TLS_CERT_PATH: .*none.pem", err.message[2])
    assert.matches("^MACP_TLS_KEY_PATH: .*missing.key", err.message[3])
    assert.equal("MACP_TLS_CLIENT_AUTH: set MACP_TLS_CLIENT_CA_PATH as well", err.message[4])
  end)

  it("does not start with a file that is not there, when plaintext is permitted, too", function()
    for name in pairs({ MACP_TLS_CERT_PATH = true, MACP_TLS_KEY_PATH = true }) do
      local env = { MACP_ALLOW_INSECURE = "1", MACP_TLS_CERT_PATH = false, MACP_TLS_KEY_PATH = false }
      env[name] = certs .. "/none.pem"
      local rig, err = start(env)
      assert.is_nil(rig)
      assert.same({ name .. ": " .. certs .. "/none.pem: No such file or directory" }, err.message)
      env[name] = certs .. "/server.key" -- half a pair that is there: plaintext, with a warning
      rig = assert(start(env))
      rig:destroy()
    end
  end)

  local refusals = {
    { "a key of another certificate", { MACP_TLS_KEY_PATH = "/client.key" },
      "^MACP_TLS_KEY_PATH: .*/client.key: the private key is not the one of the certificate$" },
    { "a key in place of the certificate", { MACP_TLS_CERT_PATH = "/server.key" },
      "^MACP_TLS_CERT_PATH: .*/server.key: certificate 1: " },
    { "a certificate in place of the key", { MACP_TLS_KEY_PATH = "/server.pem" },
      "^MACP_TLS_KEY_PATH: .*/server.pem: the private key: " },
    { "client authorities that are none", { MACP_TLS_CLIENT_CA_PATH = "/client.csr" },
      "^MACP_TLS_CLIENT_CA_PATH: .*/client.csr: certificate 1: " },
    { "a certificate without a key", { MACP_TLS_KEY_PATH = false },
      "^MACP_TLS_KEY_PATH: set it to the private key of MACP_TLS_CERT_PATH$" },
    { "a key without a certificate", { MACP_TLS_CERT_PATH = false },
      "^MACP_TLS_CERT_PATH: set it to the certificate of MACP_TLS_KEY_PATH$" },
  }
  for _, case in ipairs(refusals) do
    it("does not start with " .. case[1], function()
      local env = {}
      for name, value in pairs(case[2]) do env[name] = value and certs .. value end
      local rig, err = start(env)
      assert.is_nil(rig)
      assert.equal(1, #err.message, table.concat(err.message, "\n"))
      assert.matches(case[3], err.message[1])
    end)
  end
end)

describe("certificates of the gRPC interface", function()
  local certs, live, roots, rig

  local function copy(from, to)
    local text = assert(fs.read(certs .. "/" .. from))
    assert(fs.write(live .. "/" .. to .. ".new", text))
    assert(fs.rename(live .. "/" .. to .. ".new", live .. "/" .. to))
  end

  setup(function()
    certs = assert(fs.temp_dir("macp-certs-"))
    certificates.make(certs)
    roots = { old = assert(fs.read(certs .. "/ca.pem")), new = assert(fs.read(certs .. "/other-ca.pem")) }
  end)
  teardown(function() fs.remove_tree(certs) end)

  before_each(function()
    live = assert(fs.temp_dir("macp-live-"))
    copy("server.pem", "cert.pem")
    copy("server.key", "key.pem")
    copy("ca.pem", "ca.pem")
    rig = assert(client.start({ env = {
      MACP_ALLOW_INSECURE = false, MACP_AUTH_TOKENS_JSON = '[{"token":"t","sender":"boss"}]',
      MACP_TLS_CERT_PATH = live .. "/cert.pem", MACP_TLS_KEY_PATH = live .. "/key.pem",
      MACP_TLS_CLIENT_CA_PATH = live .. "/ca.pem", MACP_TLS_CLIENT_AUTH = "optional",
    } }))
  end)
  after_each(function()
    rig:destroy()
    fs.remove_tree(live)
  end)

  local function channel(tls)
    return assert(rpc.channel({ target = "localhost:" .. rig.role.server:port(), tls = tls, own_connection = true }))
  end

  -- Which authority the certificate shown to a new connection is of.
  local function shown()
    local trusted = {}
    for name, pem in pairs(roots) do
      local link = channel({ roots_pem = pem })
      local _, err = link:unary(messages.rpc("GetSession").path, "",
        { metadata = { authorization = "Bearer t" }, timeout_ms = 5000 })
      link:close()
      if err.status == rpc.status.NOT_FOUND then trusted[#trusted + 1] = name end
    end
    return table.concat(trusted, " and ")
  end

  local function watch(link)
    local stream = assert(link:server_stream(messages.rpc("WatchSessions").path, "",
      { metadata = { authorization = "Bearer t" } }))
    return stream
  end

  it("W39: are exchanged when the files change, and streams that are open go on", function()
    local link = channel({ roots_pem = roots.old })
    local stream = watch(link)
    assert.equal("old", shown())
    copy("other-server.pem", "cert.pem")
    copy("other-server.key", "key.pem")
    eventually(function() return shown() == "new" end, 10000)
    assert.is_true(link:server_stream(messages.rpc("WatchSessions").path, "",
      { metadata = { authorization = "Bearer t" } }) ~= nil)
    local answer, err = link:unary(messages.rpc("ListModes").path, "", { timeout_ms = 5000 })
    assert.truthy(answer, err and err.message)
    stream:cancel()
    link:close()
  end)

  it("W39: are read again at SIGHUP", function()
    rig.role.certificates.ticker:stop()
    copy("other-server.pem", "cert.pem")
    copy("other-server.key", "key.pem")
    assert.equal("old", shown())
    rig.role:reload()
    assert.equal("new", shown())
  end)

  local bad = {
    { "whose key is of another certificate", function() copy("other-server.pem", "cert.pem") end },
    { "that are not PEM", function() assert(fs.write(live .. "/cert.pem", "nonsense")) end },
    { "that are gone", function() assert(fs.remove(live .. "/key.pem")) end },
    { "with empty client authorities", function() assert(fs.write(live .. "/ca.pem", "")) end },
  }
  for _, case in ipairs(bad) do
    it("W39: stay as they are when the new ones are files " .. case[1], function()
      case[2]()
      assert.is_false(rig.role.certificates:reload())
      assert.equal("old", shown())
      copy("other-server.pem", "cert.pem")
      copy("other-server.key", "key.pem")
      copy("other-ca.pem", "ca.pem")
      assert.is_true(rig.role.certificates:reload())
      assert.equal("new", shown())
    end)
  end

  it("W39: of clients are judged by the present authorities", function()
    local own = { roots_pem = roots.old }
    own.cert_pem, own.key_pem = fs.read(certs .. "/client.pem"), fs.read(certs .. "/client.key")
    local function ask()
      local link = channel(own)
      local _, err = link:unary(messages.rpc("GetSession").path, "",
        { metadata = { authorization = "Bearer t" }, timeout_ms = 5000 })
      link:close()
      return err.status
    end
    assert.equal(rpc.status.NOT_FOUND, ask())
    copy("other-ca.pem", "ca.pem")
    assert.is_true(rig.role.certificates:reload())
    assert.equal(rpc.status.UNAVAILABLE, ask())
  end)
end)
