local json = require("macp.core.json")
local jwt_claims = require("macp.auth.jwt_claims")

local SEED = require("spec.support.seed")
local NOW_S = 1800000000
local EXPECTED = { issuer = "https://issuer.test", audience = "macp-runtime", now_ms = NOW_S * 1000 }

local function read(changes)
  local claims = { iss = EXPECTED.issuer, aud = "macp-runtime", sub = "agent://ann", exp = NOW_S + 300 }
  for name, value in pairs(changes or {}) do
    if value == "ABSENT" then claims[name] = nil else claims[name] = value end
  end
  return jwt_claims.read(json.encode(claims), EXPECTED)
end

describe("claims", function()
  it("give an identity with defaults, and when it ends", function()
    local identity, exp_ms = read()
    assert.same({
      sender = "agent://ann", can_start = true, can_manage = false, observer = false,
      expires_at_ms = (NOW_S + 360) * 1000,
    }, identity)
    assert.equal((NOW_S + 300) * 1000, exp_ms)
  end)

  for _, case in ipairs({
    { "W31: without iss", { iss = "ABSENT" }, "iss is not the issuer" },
    { "W31: with an iss that is null", { iss = json.null }, "iss is not the issuer" },
    { "with another iss", { iss = "https://issuer.test/" }, "iss is not the issuer" },
    { "with a list of iss", { iss = json.array({ "https://issuer.test" }) }, "iss is not the issuer" },
    { "W31: without aud", { aud = "ABSENT" }, "aud does not name this audience" },
    { "with another aud", { aud = "macp" }, "aud does not name this audience" },
    { "with an empty list of aud", { aud = json.array({}) }, "aud does not name this audience" },
    { "with other aud", { aud = json.array({ "a", 7 }) }, "aud does not name this audience" },
    { "W31: without sub", { sub = "ABSENT" }, "sub must be a non-empty string" },
    { "W31: with an empty sub", { sub = "" }, "sub must be a non-empty string" },
    { "W31: with a blank sub", { sub = " \t" }, "sub must be a non-empty string" },
    { "with a sub that is a number", { sub = 5 }, "sub must be a non-empty string" },
    { "with a long sub", { sub = ("s"):rep(1025) }, "sub must have at most 1024 bytes" },
    { "W31: without exp", { exp = "ABSENT" }, "exp is missing or no number" },
    { "with an exp that is text", { exp = "1900000000" }, "exp is missing or no number" },
    { "60 s after exp", { exp = NOW_S - 60 }, "the token has expired" },
    { "with a negative exp", { exp = -1 }, "the token has expired" },
    { "61 s before nbf", { nbf = NOW_S + 61 }, "the token is not valid yet" },
    { "with an nbf that is text", { nbf = "1" }, "nbf is no number" },
    { "with scopes that are a list", { macp_scopes = json.array({}) }, "macp_scopes is no object" },
    { "with scopes that are text", { macp_scopes = "all" }, "macp_scopes is no object" },
    { "with a scope of a wrong type", { macp_scopes = { is_observer = "yes" } },
      "macp_scopes.is_observer must be a boolean" },
    { "with a negative cap", { macp_scopes = { max_open_sessions = -1 } },
      "macp_scopes.max_open_sessions must be an integer >= 0" },
    { "with modes that are no list", { macp_scopes = { allowed_modes = "a" } },
      "macp_scopes.allowed_modes must be an array of strings" },
  }) do
    it("refuse a token " .. case[1], function()
      local identity, reason = read(case[2])
      assert.is_nil(identity)
      assert.equal(case[3], reason)
    end)
  end

  for name, changes in pairs({
    ["59 s after exp"] = { exp = NOW_S - 59 }, ["with a fraction in exp"] = { exp = NOW_S + 0.5 },
    ["60 s before nbf"] = { nbf = NOW_S + 60 }, ["with an nbf that is null"] = { nbf = json.null },
    ["with aud in a list"] = { aud = json.array({ "other", "macp-runtime" }) },
    ["with unknown claims"] = { iat = 1, jti = "x", other = { a = 1 } },
    ["with scopes that are null"] = { macp_scopes = json.null },
    ["that never ends"] = { exp = 1e300 },
  }) do
    it("accept a token " .. name, function() assert.equal("agent://ann", (assert(read(changes))).sender) end)
  end

  for _, case in ipairs({
    { { can_start_sessions = false }, "can_start", false }, { { can_start_sessions = true }, "can_start", true },
    { { can_start_sessions = json.null }, "can_start", true },
    { { can_manage_mode_registry = true }, "can_manage", true }, { {}, "can_manage", false },
    { { is_observer = true }, "observer", true }, { {}, "observer", false },
    { { max_open_sessions = 0 }, "max_open", 0 }, { { max_open_sessions = 7 }, "max_open", 7 },
    { { max_open_sessions = json.null }, "max_open", nil },
    { { allowed_modes = json.array({}) }, "allowed_modes", nil },
    { { allowed_modes = json.array({ "*" }) }, "allowed_modes", nil },
    { { allowed_modes = json.array({ "", "*", "a" }) }, "allowed_modes", nil },
    { { allowed_modes = json.array({ "", "a" }) }, "allowed_modes", { [""] = true, a = true } },
    { { allowed_modes = json.null, unknown = 1 }, "allowed_modes", nil },
  }) do
    it("read macp_scopes " .. json.encode(case[1], { sorted = true }), function()
      assert.same({ case[3] }, { assert(read({ macp_scopes = case[1] }))[case[2]] })
    end)
  end

  it("give an identity with a sender, or a reason, whatever they are made of", function()
    math.randomseed(SEED)
    local values = {
      json.null, true, false, 0, -1, 1e308, NOW_S + 300, "", " ", "macp-runtime", EXPECTED.issuer, "agent://ann",
      json.array({}), json.array({ "macp-runtime" }), json.array({ json.null }), json.object({}),
      { allowed_modes = json.array({ "a" }) }, { max_open_sessions = 1e308 }, { is_observer = json.null },
    }
    local given = 0
    for round = 1, 5000 do
      local claims = { iss = EXPECTED.issuer, aud = "macp-runtime", sub = "agent://ann", exp = NOW_S + 300 }
      for _ = 1, math.random(1, 3) do
        local names = { "iss", "aud", "sub", "exp", "nbf", "macp_scopes" }
        claims[names[math.random(#names)]] = values[math.random(#values)]
      end
      local identity, reason = jwt_claims.read(json.encode(claims), EXPECTED)
      local where = "seed " .. SEED .. ", round " .. round
      if identity then
        given = given + 1
        assert.truthy(identity.sender:find("%S"), where)
        assert.equal(EXPECTED.issuer, claims.iss, where)
        assert.truthy(identity.expires_at_ms > EXPECTED.now_ms and type(identity.can_start) == "boolean", where)
      else
        assert.truthy(type(reason) == "string" and #reason > 0, where)
      end
    end
    assert.truthy(given > 0 and given < 5000)
  end)

  for _, text in ipairs({ "", "null", "[]", "7", '"a"', "{", "\255" }) do
    it(string.format("refuse %q", text), function()
      local identity, reason = jwt_claims.read(text, EXPECTED)
      assert.same({ nil, "the claims are no JSON object" }, { identity, reason })
    end)
  end
end)
