local bearer_chain = require("macp.auth.bearer_chain")
local dev = require("macp.auth.dev")
local jwks_source = require("macp.auth.jwks_source")
local jwt_bearer = require("macp.auth.jwt_bearer")
local static_bearer = require("macp.auth.static_bearer")

local issuer = require("spec.support.issuer")

describe("the credential of a call", function()
  for _, case in ipairs({
    { nil, nil, nil, false }, { "Bearer a", nil, "a", true }, { "Bearer a", "b", "a", true },
    { nil, "b", "b", false }, { "Bearer ", "b", "", true }, { "Bearer  a ", nil, " a ", true },
    { "bearer a", nil, nil, false }, { "Bearer", "b", "b", false }, { "Basic eDp5", "b", "b", false },
    { "Bearer\ta", nil, nil, false },
  }) do
    it(string.format("is %s of authorization %s and x-macp-token %s", case[3], case[1], case[2]), function()
      local credential, is_bearer = bearer_chain.credential(case[1], case[2])
      assert.same({ case[3], case[4] }, { credential, is_bearer })
    end)
  end
end)

describe("the chain of resolvers", function()
  local company = issuer.new({ alg = "HS256" })
  local token = company:token()

  local function jwt()
    local keys = jwks_source.new({ name = "spec" })
    assert(keys:accept(company:jwks()))
    return jwt_bearer.new({ issuer = company.issuer, audience = "macp-runtime", algs = { "HS256" }, keys = keys })
  end

  local function static()
    return static_bearer.new({ { token = "opaque", sender = "bob" }, { token = "do.tted", sender = "eve" } })
  end

  local INVALID = { "no resolver takes credentials of this kind", "invalid" }
  local chains = {
    jwt = function() return bearer_chain.new({ jwt() }) end,
    static = function() return bearer_chain.new({ static() }) end,
    both = function() return bearer_chain.new({ jwt(), static() }) end,
    dev = function() return bearer_chain.new({ dev.new({ "plane" }) }) end,
  }
  -- chain, credential, is_bearer, sender or { reason, kind }
  for _, case in ipairs({
    { "jwt", token, true, "agent://ann" }, { "both", token, true, "agent://ann" },
    { "jwt", token, false, INVALID }, { "both", token, false, INVALID }, -- x-macp-token is not for signed tokens
    { "jwt", "opaque", true, INVALID }, { "both", "opaque", true, "bob" }, { "both", "opaque", false, "bob" },
    { "static", "opaque", true, "bob" }, { "static", "opaque", false, "bob" },
    { "static", "other", true, { "unknown token", "invalid" } },
    { "both", "other", false, { "unknown token", "invalid" } },
    { "static", "do.tted", true, INVALID }, { "static", token, true, INVALID },
    { "both", "do.tted", true, { "the token does not have three parts", "invalid" } }, -- no fall-through
    { "both", "a.b.c", true, { "a part of the token is not base64url", "invalid" } },
    { "dev", "agent://ann.b", true, "agent://ann.b" }, { "dev", "x", false, "x" },
    { "dev", " ", true, { "a development credential must be a non-empty string", "invalid" } },
    { "dev", nil, false, { "no credential", "missing" } },
    { "dev", "", true, { "the credential is empty", "invalid" } },
    { "static", "", true, { "the credential is empty", "invalid" } },
    { "static", ("x"):rep(8193), true, { "the credential is too long", "invalid" } },
  }) do
    it(string.format("%s: %s %s gives %s", case[1], case[3] and "bearer" or "x-macp-token",
      tostring(case[2]):sub(1, 20), type(case[4]) == "table" and case[4][1] or case[4]), function()
      local chain = chains[case[1]]()
      local identity, reason, kind = chain:resolve(case[2], case[3])
      if type(case[4]) == "table" then
        assert.is_nil(identity)
        assert.same(case[4], { reason, kind })
      else
        assert.equal(case[4], identity.sender)
      end
    end)
  end

  it("W31: a development identity has a sender, all rights but that of an observer", function()
    local chain = chains.dev()
    assert.same({ sender = "ann", can_start = true, can_manage = true, observer = false }, chain:resolve("ann", true))
    assert.is_true(chain:resolve("plane", true).observer)
  end)

  it("is named after its resolvers", function()
    assert.equal("jwt+static", chains.both():name())
    assert.equal("dev", chains.dev():name())
  end)

  it("remembers what was good, per header, until it is told to forget", function()
    local chain = chains.both()
    assert.is_nil(chain:known("opaque", true))
    local identity = chain:resolve("opaque", true)
    assert.equal(identity, chain:known("opaque", true))
    assert.is_nil(chain:known("opaque", false))
    chain:resolve("other", true)
    assert.is_nil(chain:known("other", true))
    assert.is_nil(chain:known(("x"):rep(8193), true))
    chain:forget()
    assert.is_nil(chain:known("opaque", true))
  end)

  it("remembers no longer than the resolver allows", function()
    local now = 1000
    local given = { sender = "s" }
    local chain = bearer_chain.new({ { name = "n", resolve = function() return given, nil, nil, 1500 end } },
      function() return now end)
    chain:resolve("c", true)
    now = 1499
    assert.equal(given, chain:known("c", true))
    now = 1500
    assert.is_nil(chain:known("c", true))
    chain:resolve("c", true)
    assert.is_nil(chain:known("c", true))
  end)

  it("remembers a bounded number", function()
    local chain = chains.dev()
    for i = 1, 5000 do chain:resolve("agent" .. i, true) end
    assert.equal(4096, chain.remembered[true].size)
    assert.is_nil(chain:known("agent1", true))
    assert.equal("agent5000", chain:known("agent5000", true).sender)
  end)
end)
