local bearer_chain = require("macp.auth.bearer_chain")
local jwks_source = require("macp.auth.jwks_source")
local jwt_bearer = require("macp.auth.jwt_bearer")

local issuer = require("spec.support.issuer")

describe("signed tokens", function()
  local function open(company, opts)
    local source = jwks_source.new({ name = "spec" })
    assert(source:accept(company:jwks()))
    return jwt_bearer.new({
      issuer = company.issuer, audience = "macp-runtime", algs = opts and opts.algs or { company.alg }, keys = source,
      now_ms = opts and opts.now_ms,
    }), source
  end

  for _, alg in ipairs({ "RS256", "ES256", "HS256" }) do
    it("are accepted with " .. alg .. ", and refused when that is not allowed", function()
      local company = issuer.new({ alg = alg, kid = "k" })
      assert.equal("agent://ann", (open(company)):resolve(company:token(), true).sender)
      local others = {}
      for _, other in ipairs({ "RS256", "ES256", "HS256" }) do
        if other ~= alg then others[#others + 1] = other end
      end
      local identity, reason = (open(company, { algs = others })):resolve(company:token(), true)
      assert.same({ nil, "the token's algorithm is not allowed" }, { identity, reason })
    end)
  end

  it("are refused when somebody else has signed them", function()
    local company = issuer.new({ alg = "ES256" })
    local forger = issuer.new({ alg = "ES256", kid = "other" })
    forger.jwk.kid = nil
    local identity, reason = (open(company)):resolve(issuer.new({ alg = "ES256", key = forger.jwk }):token(), true)
    assert.same({ nil, "the signature is wrong" }, { identity, reason })
  end)

  it("W23: are verified once a minute at most, and again when the keys have changed", function()
    local now = 1800000000000
    local company, newer = issuer.new({ alg = "HS256" }), issuer.new({ alg = "HS256", kid = "n" })
    local jwt, source = open(company, { now_ms = function() return now end })
    local chain = bearer_chain.new({ jwt }, function() return now end)
    source:on_change(function() chain:forget() end)
    local token = company:token({ exp = 1800000300 })
    local function use() return chain:known(token, true) or chain:resolve(token, true) end
    for _ = 1, 100 do assert.equal("agent://ann", use().sender) end
    assert.equal(1, jwt.verifications)
    now = now + 59999
    use()
    assert.equal(1, jwt.verifications)
    now = now + 1
    use()
    assert.equal(2, jwt.verifications)
    assert(source:accept(company:jwks(newer)))
    use()
    assert.equal(3, jwt.verifications)
    assert(source:accept(newer:jwks()))
    assert.is_nil((use()))
  end)

  it("W23: are not remembered beyond their exp", function()
    local now = 1800000000000
    local company = issuer.new({ alg = "HS256" })
    local jwt = open(company, { now_ms = function() return now end })
    local chain = bearer_chain.new({ jwt }, function() return now end)
    local token = company:token({ exp = 1800000010 })
    assert.truthy(chain:resolve(token, true))
    now = now + 9999
    assert.truthy(chain:known(token, true))
    now = now + 1
    assert.is_nil(chain:known(token, true))
    assert.truthy(chain:resolve(token, true)) -- within the leeway, verified each time
    assert.is_nil(chain:known(token, true))
    now = now + 60000
    local identity, reason = chain:resolve(token, true)
    assert.same({ nil, "the token has expired" }, { identity, reason })
  end)
end)
