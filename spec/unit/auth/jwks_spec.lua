local jws = require("host.jws")

local json = require("macp.core.json")
local jwks = require("macp.auth.jwks")

local issuer = require("spec.support.issuer")

local SEED = require("spec.support.seed")

describe("a JWKS document", function()
  it("gives its usable keys and says which are not", function()
    local rsa, oct = issuer.new({ kid = "r" }), issuer.new({ alg = "HS256" })
    local text = json.encode({ keys = json.array({
      rsa:public_jwk(), { kty = "OKP", crv = "Ed25519", x = "AAAA" }, oct:public_jwk(), 7,
      { kty = "EC", crv = "P-384", x = "AAAA", y = "AAAA" }, { kty = "oct", k = "AAAA", use = "enc" },
    }) })
    local set = assert(jwks.parse(text))
    assert.equal(2, set.count)
    assert.same({
      "keys[2]: kty is none of RSA, EC and oct", "keys[4]: must be an object", "keys[5]: crv is not P-256",
      "keys[6]: use is not sig",
    }, set.skipped)
    assert.truthy(set.keys:verify(rsa:token(), { "RS256" }))
    assert.truthy(set.keys:verify(oct:token(), { "HS256" }))
  end)

  it("has a digest of what it says, not of how it is written", function()
    local one = assert(jwks.parse('{"keys":[{"kty":"oct","k":"AAAA"}]}'))
    assert.equal(one.digest, assert(jwks.parse('{ "keys": [ {"k":"AAAA", "kty":"oct"} ] }')).digest)
    assert.not_equal(one.digest, assert(jwks.parse('{"keys":[{"kty":"oct","k":"AAAB"}]}')).digest)
  end)

  it("takes 64 keys and leaves the others out", function()
    local list = json.array({})
    for i = 1, 70 do list[i] = { kty = "oct", k = "AAAA" } end
    local set = assert(jwks.parse(json.encode({ keys = list })))
    assert.equal(64, set.count)
    assert.equal("keys[65]: more than 64 keys", set.skipped[1])
  end)

  for text, expected in pairs({
    ["{"] = "must be JSON: line 1, column 2: the text ends too early",
    ["[]"] = "must be an object with an array `keys`",
    ["{}"] = "must be an object with an array `keys`", ['{"keys":{}}'] = "must be an object with an array `keys`",
    ["null"] = "must be an object with an array `keys`", ['{"keys":[]}'] = "has no usable key",
    ['{"keys":[{}]}'] = "has no usable key (keys[1]: kty is none of RSA, EC and oct)",
    ['{"keys":[{"kty":"oct","k":7}]}'] = "has no usable key (keys[1]: k is not text)",
    [("x"):rep(262145)] = "has more than 262144 bytes",
  }) do
    it("is refused: " .. text:sub(1, 40), function()
      local set, reason = jwks.parse(text)
      assert.is_nil(set)
      assert.equal(expected, reason)
    end)
  end

  it("never quotes its keys when it is refused", function()
    math.randomseed(SEED)
    local document = '{"keys":[{"kty":"oct","k":"S3CRETS3CRETS3CRET","kid":"S3CRET"}]}'
    for round = 1, 3000 do
      local bytes = { document:byte(1, -1) }
      for _ = 1, math.random(1, 3) do bytes[math.random(#bytes)] = math.random(0, 255) end
      local set, reason = jwks.parse(string.char(unpack(bytes)))
      local where = "seed " .. SEED .. ", round " .. round
      assert.truthy(set or #reason > 0, where)
      if reason then assert.is_nil(reason:find("S3CR", 1, true), where) end
    end
  end)

  it("is not fooled by what a stranger sends instead of a token", function()
    math.randomseed(SEED)
    local keys = jws.keys()
    local company = issuer.new({ alg = "HS256" })
    assert(keys:add(company:public_jwk()))
    local token = company:token()
    for round = 1, 3000 do
      local bytes = { token:byte(1, -1) }
      for _ = 1, math.random(1, 3) do bytes[math.random(#bytes)] = math.random(0, 255) end
      local text = string.char(unpack(bytes))
      local claims, err = keys:verify(text, { "RS256", "ES256", "HS256" })
      local where = "seed " .. SEED .. ", round " .. round
      if text ~= token then
        assert.is_nil(claims, where)
        assert.truthy(#err.message > 0, where)
      end
    end
  end)
end)
