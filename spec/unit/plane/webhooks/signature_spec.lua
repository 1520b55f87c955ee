local signature = require("macp.plane.webhooks.signature")

local BODY = '{"event":"run.failed"}'

describe("the signature", function()
  it("covers the body alone, and the body with its time", function()
    -- printf %s BODY | openssl dgst -sha256 -hmac "a secret of 24 characters"
    local headers = signature.headers({ secret = "a secret of 24 characters" }, 1775116800, BODY)
    assert.equal("2d0f0b515d3f7fde388257ab4c71e4ef67e4198a217247b9cb4ed09c0bbfe222", headers["x-macp-signature"])
    assert.equal("1775116800", headers["x-macp-timestamp"])
    local timed = "f0420cdf57a8fdbf83c163429b80dddefaac36c452a1d2df680c0c8793a3e1d1"
    assert.equal("t=1775116800,v1=" .. timed, headers["x-macp-signature-256"])
  end)

  it("is made with both secrets while one is exchanged", function()
    local one = signature.headers({ secret = "the new one" }, 7, BODY)
    local old = signature.headers({ secret = "the old one" }, 7, BODY)
    local both = signature.headers({ secret = "the new one", previous_secret = "the old one" }, 7, BODY)
    assert.equal(one["x-macp-signature"], both["x-macp-signature"])
    assert.equal(one["x-macp-signature-256"] .. old["x-macp-signature-256"]:match(",.*"), both["x-macp-signature-256"])
  end)
end)
