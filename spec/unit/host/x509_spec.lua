local child = require("host.child")
local fs = require("host.fs")
local sys = require("host.sys")
local x509 = require("host.x509")

local certificates = require("spec.support.certificates")

describe("host.x509", function()
  local dir, files

  setup(function()
    dir = assert(fs.temp_dir("macp-x509-"))
    certificates.make(dir)
    files = {}
    for _, name in ipairs({ "ca.pem", "server.pem", "server.key", "client.pem", "client.key" }) do
      files[name] = assert(fs.read(dir .. "/" .. name))
    end
  end)
  teardown(function() fs.remove_tree(dir) end)

  it("reads subject, names and times of the first certificate and counts them", function()
    local facts = assert(x509.read(files["client.pem"] .. files["ca.pem"]))
    assert.equal("CN=client", facts.subject)
    assert.same({ "DNS:agent.test", "URI:spiffe://test/agent" }, facts.names)
    assert.equal(2, facts.count)
    local now = sys.now_ms()
    assert.is_true(facts.not_before_ms <= now and facts.not_before_ms > now - 600000)
    assert.equal(2 * 86400 * 1000, facts.not_after_ms - facts.not_before_ms)
    assert.same({}, x509.read(files["ca.pem"]).names)
  end)

  it("knows which key belongs to a certificate", function()
    assert.is_true(x509.check_pair(files["server.pem"], files["server.key"]))
    local _, err = x509.check_pair(files["server.pem"], files["client.key"])
    assert.same({ "INVALID", "the private key is not the one of the certificate" }, { err.code, err.message })
  end)

  it("says what does not parse", function()
    local cases = {
      { function() return x509.read("") end, "^certificate 1: " },
      { function() return x509.read("hello") end, "^certificate 1: " },
      { function() return x509.read(files["server.key"]) end, "^certificate 1: " },
      { function() return x509.read(files["ca.pem"] .. files["server.pem"]:gsub("M", "!", 3)) end, "^certificate 2: " },
      { function() return x509.check_pair(files["server.pem"], "") end, "^the private key: " },
      { function() return x509.check_pair("", files["server.key"]) end, "^certificate 1: " },
    }
    for i, case in ipairs(cases) do
      local result, err = case[1]()
      assert.is_nil(result, i)
      assert.equal("INVALID", err.code)
      assert.matches(case[2], err.message)
    end
  end)

  it("does not ask for the passphrase of a key", function()
    local args = { "pkcs8", "-topk8", "-in", dir .. "/server.key", "-passout", "pass:secret", "-out",
      dir .. "/locked.key" }
    local proc = assert(child.spawn({ file = "/usr/bin/openssl", args = args }))
    assert.equal(0, proc:wait().code)
    local _, err = x509.check_pair(files["server.pem"], fs.read(dir .. "/locked.key"))
    assert.matches("^the private key: ", err.message)
  end)
end)
