local certificate = require("macp.auth.certificate")

describe("identities of client certificates", function()
  it("are the one URI of the certificate", function()
    local resolver = certificate.new()
    local identity = resolver:resolve({ "spiffe://test/agent" })
    assert.same({ sender = "spiffe://test/agent", can_start = true, can_manage = false, observer = false }, identity)
    assert.equal(identity, resolver:resolve({ "spiffe://test/agent" }))
  end)

  for name, case in pairs({
    ["no certificate"] = { nil, nil }, ["no URI"] = { {}, nil },
    ["two URIs"] = { { "a:b", "a:c" }, "the client certificate names more than one URI" },
    ["a long URI"] = { { ("u"):rep(1025) }, "the URI of the client certificate must have at most 1024 bytes" },
  }) do
    it("are not given by " .. name, function()
      local identity, reason = certificate.new():resolve(case[1])
      assert.is_nil(identity)
      assert.equal(case[2], reason)
    end)
  end
end)
