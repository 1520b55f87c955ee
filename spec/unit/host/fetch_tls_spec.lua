-- Requests over TLS: whose certificates are trusted, and for which names.

local child = require("host.child")
local fetch = require("host.fetch")
local fs = require("host.fs")

local fetch_rig = require("spec.support.fetch_rig")
local servers = require("spec.support.http_server")

describe("host.fetch over TLS", function()
  local rig, dir, process, tls_base, ca_pem

  local function openssl(...)
    local proc = assert(child.spawn({ file = "/usr/bin/openssl", args = { ... }, stdin = "null", stdout = "null",
      stderr = "null" }))
    assert.equal(0, proc:wait().code)
  end

  before_each(function()
    rig = fetch_rig.start()
    dir = assert(fs.temp_dir("macp-fetch-"))
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
      "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", dir .. "/key.pem", "-out",
      dir .. "/cert.pem")
    ca_pem = assert(fs.read(dir .. "/cert.pem"))
    process = assert(child.spawn({ file = "/usr/bin/openssl", stdin = "pipe", stdout = "pipe", stderr = "null",
      args = { "s_server", "-4", "-accept", "0", "-key", dir .. "/key.pem", "-cert", dir .. "/cert.pem", "-www" } }))
    local port
    repeat port = assert(process:read_line("stdout")):match("^ACCEPT .*:(%d+)") until port
    tls_base = ":" .. port .. "/"
  end)

  after_each(function()
    process:kill("KILL")
    process:close_stdin()
    repeat until not process:read("stdout")
    process:wait()
    fs.remove_tree(dir)
    servers.stop_all()
  end)

  it("trusts the given roots, and only for the name they vouch for", function()
    local url = "https://localhost" .. tls_base
    local reply = assert(fetch.request({ url = url, ca_pem = ca_pem }))
    assert.equal(200, reply.status)
    assert.matches("s_server", reply.body)
    local _, err = fetch.request({ url = url })
    assert.equal("DENIED", err.code)
    assert.matches("certificate", err.message)
    _, err = fetch.request({ url = "https://127.0.0.1" .. tls_base, ca_pem = ca_pem })
    assert.equal("DENIED", err.code)
    _, err = fetch.request({ url = url, ca_pem = "no certificate" })
    assert.is_not_nil(err)
  end)

  it("reports a server that does not speak it", function()
    local _, err = fetch.request({ url = (rig.base:gsub("http:", "https:")) .. "/" })
    assert.is_not_nil(err)
    assert.equal("UNAVAILABLE", err.code)
  end)
end)
