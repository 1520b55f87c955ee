-- host.rpc over TLS: server certificates, wrong authorities, plaintext peers, client certificates.

local fs = require("host.fs")
local rpc = require("host.rpc")

local certificates = require("spec.support.certificates")

local METHOD = "/t.S/Who"

describe("TLS", function()
  local dir, pem

  setup(function()
    dir = assert(fs.temp_dir("rpc-tls"))
    certificates.make(dir)
    pem = {}
    for _, name in ipairs({ "ca", "other-ca", "server", "client" }) do
      local path = dir .. "/" .. name
      pem[name] = { cert = assert(fs.read(path .. ".pem")), key = assert(fs.read(path .. ".key")) }
    end
  end)

  teardown(function() fs.remove_tree(dir) end)

  -- Calls METHOD once with the channel's TLS options; the reply is the common name of the client's certificate.
  local function ask(server_tls, channel_tls)
    for key, value in pairs({ cert_pem = pem.server.cert, key_pem = pem.server.key }) do
      if server_tls then server_tls[key] = value end
    end
    local server = assert(rpc.listen{ methods = { [METHOD] = "unary" }, tls = server_tls })
    local seen
    server:serve(function(call)
      seen = call:identity()
      call:reply((seen.x509_common_name or { "nobody" })[1])
    end)
    local target = "localhost:" .. server:port()
    local channel = assert(rpc.channel{ target = target, tls = channel_tls, own_connection = true })
    local reply, err = channel:unary(METHOD, "", { timeout_ms = 5000 })
    channel:close()
    server:close()
    return reply, err, seen
  end

  local function assert_unavailable(reply, err)
    assert.is_nil(reply)
    assert.same({ "RPC", rpc.status.UNAVAILABLE }, { err.code, err.status })
  end

  it("verifies the server", function()
    local reply, _, seen = ask({}, { roots_pem = pem.ca.cert })
    assert.equal("nobody", reply)
    assert.same({ "ssl" }, seen.transport_security_type)
  end)

  it("refuses a server of another authority", function()
    assert_unavailable(ask({}, { roots_pem = pem["other-ca"].cert }))
    assert_unavailable(ask({}, true))
  end)

  it("checks the server's name, or the one it is told to expect", function()
    assert.equal("nobody", (ask({}, { roots_pem = pem.ca.cert, server_name = "server.test" })))
    assert_unavailable(ask({}, { roots_pem = pem.ca.cert, server_name = "elsewhere.test" }))
  end)

  it("does not talk plaintext", function()
    assert_unavailable(ask({}, nil))
    assert_unavailable(ask(nil, { roots_pem = pem.ca.cert }))
  end)

  it("requires client certificates when told to", function()
    local server_tls = { client_ca_pem = pem.ca.cert, client_auth = "require" }
    local client_tls = { roots_pem = pem.ca.cert, cert_pem = pem.client.cert, key_pem = pem.client.key }
    local reply, _, seen = ask(server_tls, client_tls)
    assert.equal("client", reply)
    local names = table.concat(seen.x509_subject_alternative_name, " ")
    assert.matches("agent.test", names, 1, true)
    assert_unavailable(ask(server_tls, { roots_pem = pem.ca.cert }))
    server_tls.client_ca_pem = pem["other-ca"].cert
    assert_unavailable(ask(server_tls, client_tls))
  end)

  it("takes client certificates when they are optional", function()
    local server_tls = { client_ca_pem = pem.ca.cert, client_auth = "optional" }
    assert.equal("nobody", (ask(server_tls, { roots_pem = pem.ca.cert })))
    assert.equal("client", (ask(server_tls,
      { roots_pem = pem.ca.cert, cert_pem = pem.client.cert, key_pem = pem.client.key })))
  end)

  it("says what is wrong with unusable material", function()
    local methods = { [METHOD] = "unary" }
    local function problem(result, err)
      assert.is_nil(result)
      return err.code .. ": " .. err.message
    end
    assert.equal("INVALID: the TLS certificate is not PEM text",
      problem(rpc.listen{ methods = methods, tls = { cert_pem = "x", key_pem = pem.server.key } }))
    assert.equal("INVALID: verifying client certificates needs a client CA", problem(rpc.listen{ methods = methods,
      tls = { cert_pem = pem.server.cert, key_pem = pem.server.key, client_auth = "require" } }))
    assert.matches("^UNAVAILABLE: listen on 127.0.0.1:0: ", problem(rpc.listen{ methods = methods,
      tls = { cert_pem = pem.server.cert, key_pem = pem.client.key } }))
    assert.equal("INVALID: a TLS certificate and its private key go together; one is missing",
      problem(rpc.channel{ target = "localhost:1", tls = { cert_pem = pem.client.cert } }))
  end)
end)
