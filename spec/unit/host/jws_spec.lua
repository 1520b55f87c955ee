-- Signed tokens against the published values of RFC 7515 and against what must not pass.

local jws = require("host.jws")
local json = require("host.json")

local CLAIMS = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
local HS256 = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9." .. CLAIMS .. ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
local ES256 = "eyJhbGciOiJFUzI1NiJ9." .. CLAIMS
  .. ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
local OCT = { kty = "oct",
  k = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow" }
local EC = { kty = "EC", crv = "P-256", x = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
  y = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" }
local ALL = { "RS256", "ES256", "HS256" }

local function set(...)
  local keys = jws.keys()
  for _, jwk in ipairs({ ... }) do assert(keys:add(jwk)) end
  return keys
end

describe("host.jws", function()
  it("verifies the examples of RFC 7515", function()
    local keys = set(OCT, EC)
    assert.equal(2, keys:count())
    for _, token in ipairs({ HS256, ES256 }) do
      assert.equal("joe", json.decode(assert(keys:verify(token, ALL))).iss)
    end
  end)

  it("tells apart why a token is refused", function()
    local keys = set(OCT)
    for _, case in ipairs({
      { "INVALID", "opaque", ALL, "the token does not have three parts" },
      { "INVALID", "a.b.c", ALL, "a part of the token is not base64url" },
      { "LIMIT", ("a"):rep(8193), ALL, "the token has more than 8192 characters" },
      { "DENIED", HS256, { "RS256" }, "the token's algorithm is not allowed" },
      { "DENIED", HS256, {}, "the token's algorithm is not allowed" },
      { "DENIED", HS256:sub(1, -2) .. "A", ALL, "the signature is wrong" },
      { "DENIED", ES256, ALL, "the signature is wrong" },
    }) do
      local payload, err = keys:verify(case[2], case[3])
      assert.is_nil(payload)
      assert.same({ case[1], case[4] }, { err.code, err.message })
    end
  end)

  it("makes keys that sign", function()
    for _, alg in ipairs(ALL) do
      local jwk = json.decode(jws.generate(alg))
      jwk.kid = "k-" .. alg
      local token = assert(set(jwk):sign(alg, '{"sub":"a"}'))
      assert.equal('{"sub":"a"}', set(jwk):verify(token, { alg }))
      local _, err = set(OCT, EC):verify(token, ALL)
      assert.same({ "NOT_FOUND", "no key has the token's kid" }, { err.code, err.message })
    end
    local _, err = set(EC):sign("ES256", "{}")
    assert.same({ "NOT_FOUND", "no private key for ES256" }, { err.code, err.message })
    _, err = set(OCT):sign("HS256", ("x"):rep(4097))
    assert.same({ "LIMIT", "the claims have more than 4096 bytes" }, { err.code, err.message })
  end)

  it("says why a key is not usable", function()
    local keys = jws.keys()
    for text, jwk in pairs({
      ["kty is none of RSA, EC and oct"] = {}, ["kty is not text"] = { kty = 1 }, ["k is missing"] = { kty = "oct" },
      ["kid is not text"] = { kty = "oct", k = "AAAA", kid = 7 }, ["crv is not P-256"] = { kty = "EC", crv = "P-521" },
    }) do
      local ok, err = keys:add(jwk)
      assert.is_nil(ok)
      assert.same({ "INVALID", text }, { err.code, err.message })
    end
    assert.equal(0, keys:count())
  end)

  it("raises for algorithms that do not exist", function()
    assert.has_error(function() jws.generate("none") end)
    assert.has_error(function() set(OCT):verify(HS256, { "none" }) end)
    assert.has_error(function() set(OCT):sign("HS512", "{}") end)
  end)
end)
