local client = require("spec.support.runtime_client")

local child = require("host.child")
local fs = require("host.fs")
local rpc = require("host.rpc")

local messages = require("macp.protocol.messages")

describe("the gRPC interface over TLS", function()
  local certs, ca

  setup(function()
    certs = assert(fs.temp_dir("macp-certs-"))
    local proc = assert(child.spawn({ file = "/bin/sh", args = { "spec/support/certs.sh", certs } }))
    assert.equal(0, proc:wait().code)
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

  it("does not start with a certificate that is not there", function()
    local rig, err = start({ MACP_TLS_CERT_PATH = certs .. "/none.pem" })
    assert.is_nil(rig)
    assert.truthy(err.message:find("MACP_TLS_CERT_PATH", 1, true))
    rig, err = start({ MACP_TLS_CLIENT_AUTH = "require" })
    assert.is_nil(rig)
    assert.truthy(err.message:find("MACP_TLS_CLIENT_CA_PATH", 1, true))
  end)
end)
