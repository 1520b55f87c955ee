local crypto = require("host.crypto")

local json = require("macp.core.json")
local static_bearer = require("macp.auth.static_bearer")

local SEED = require("spec.support.seed")

local function resolver(text) return static_bearer.new(assert(static_bearer.parse(text))) end

describe("static tokens", function()
  it("give the identity with its defaults", function()
    local identity = resolver([=[[{"token":"k7-a","sender":"agent://ann"}]]=]):resolve("k7-a")
    assert.same({ sender = "agent://ann", can_start = true, can_manage = false, observer = false }, identity)
  end)

  it("read every capability from an object with tokens", function()
    local identity = resolver([[{"tokens":[{"token":"t","sender":"watch","can_start_sessions":false,
      "is_observer":true,"can_manage_mode_registry":true,"max_open_sessions":4,"allowed_modes":["a","b"],
      "unknown":1}]}]]):resolve("t")
    assert.is_false(identity.can_start)
    assert.is_true(identity.observer)
    assert.is_true(identity.can_manage)
    assert.equal(4, identity.max_open)
    assert.same({ a = true, b = true }, identity.allowed_modes)
  end)

  it("treat an empty list of modes and a star as all modes", function()
    local found = resolver([=[[{"token":"x","sender":"s","allowed_modes":[]},
      {"token":"y","sender":"s","allowed_modes":["","*"]}]]=])
    assert.is_nil(found:resolve("x").allowed_modes)
    assert.is_nil(found:resolve("y").allowed_modes)
  end)

  it("let the last of equal tokens win and refuse unknown ones", function()
    local found = resolver([=[[{"token":"t","sender":"first"},{"token":"t","sender":"last"}]]=])
    assert.equal("last", found:resolve("t").sender)
    assert.equal(1, found.count)
    local identity, reason = found:resolve("other")
    assert.is_nil(identity)
    assert.equal("unknown token", reason)
  end)

  it("do not claim credentials with a dot, also one that is listed", function()
    local entries = assert(static_bearer.parse([=[[{"token":"a","sender":"s"},{"token":"a.b","sender":"s"}]]=]))
    assert.same({ 2 }, static_bearer.dotted(entries))
    local found = static_bearer.new(entries)
    local identity, reason = found:resolve("a.b")
    assert.same({}, { identity, reason })
  end)

  it("keep digests only", function()
    local found = resolver([=[[{"token":"very-secret","sender":"s"}]]=])
    assert.is_table(found.by_digest[crypto.sha256("very-secret")])
    assert.is_nil(found.by_digest["very-secret"])
  end)

  it("are replaced as a whole", function()
    local found = resolver([=[[{"token":"one","sender":"s"}]]=])
    found:replace(assert(static_bearer.parse([=[[{"token":"two","sender":"s"}]]=])))
    assert.is_nil((found:resolve("one")))
    assert.equal("s", found:resolve("two").sender)
  end)

  for text, expected in pairs({
    ["{"] = "line 1, column 2: the text ends too early",
    ["{}"] = "must be an array of tokens or an object with the member tokens",
    ['{"tokens":{}}'] = "must be an array of tokens or an object with the member tokens",
    ["7"] = "must be an array of tokens or an object with the member tokens",
    ["[7]"] = "tokens[1]: must be an object",
    ["[[]]"] = "tokens[1]: must be an object",
    ['[{"sender":"s"}]'] = "tokens[1]: token must be a non-empty string",
    ['[{"token":"t","sender":"s"},{"token":"","sender":"s"}]'] = "tokens[2]: token must be a non-empty string",
    ['[{"token":"t"}]'] = "tokens[1]: sender must be a non-empty string",
    ['[{"token":"t","sender":" "}]'] = "tokens[1]: sender must be a non-empty string",
    ['[{"token":"t","sender":"a\\u0000b"}]'] = "tokens[1]: sender must not hold a NUL",
    ['[{"token":"t","sender":"' .. ("s"):rep(1025) .. '"}]'] = "tokens[1]: sender must have at most 1024 bytes",
    ['[{"token":"t","sender":"s","max_open_sessions":-1}]'] = "tokens[1]: max_open_sessions must be an integer >= 0",
    ['[{"token":"t","sender":"s","max_open_sessions":1.5}]'] = "tokens[1]: max_open_sessions must be an integer >= 0",
    ['[{"token":"t","sender":"s","is_observer":"yes"}]'] = "tokens[1]: is_observer must be a boolean",
    ['[{"token":"t","sender":"s","can_start_sessions":1}]'] = "tokens[1]: can_start_sessions must be a boolean",
    ['[{"token":"t","sender":"s","allowed_modes":[1]}]'] = "tokens[1]: allowed_modes must be an array of strings",
    ['[{"token":"t","sender":"s","allowed_modes":{"a":1}}]'] = "tokens[1]: allowed_modes must be an array of strings",
  }) do
    it("refuse " .. text:sub(1, 70), function()
      local entries, reason = static_bearer.parse(text)
      assert.is_nil(entries)
      assert.equal(expected, reason)
    end)
  end

  it("never quote the document when they refuse it", function()
    local secret = "S3CRETtoken"
    math.randomseed(SEED)
    local document = json.encode({
      { token = secret, sender = "s", max_open_sessions = 3, allowed_modes = { secret } },
    })
    for round = 1, 3000 do
      local bytes = { document:byte(1, -1) }
      for _ = 1, math.random(1, 3) do bytes[math.random(#bytes)] = math.random(0, 255) end
      local text = string.char(unpack(bytes)):sub(1, math.random(#bytes))
      local entries, reason = static_bearer.parse(text)
      local where = "seed " .. SEED .. ", round " .. round
      if entries then
        static_bearer.new(entries)
      else
        assert.is_nil(reason:find("S3CR", 1, true), where)
        assert.truthy(#reason > 0 and #reason < 200, where)
      end
    end
  end)
end)
