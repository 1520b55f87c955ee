local static_bearer = require("macp.auth.static_bearer")

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
    local identity, reason = found:resolve("other")
    assert.is_nil(identity)
    assert.equal("unknown token", reason)
  end)

  for text, expected in pairs({
    ["{"] = "", ["{}"] = "array of tokens", ['[{"sender":"s"}]'] = "tokens%[1%]: token",
    ['[{"token":"t","sender":" "}]'] = "sender", ['[{"token":"t","sender":"s","max_open_sessions":-1}]'] = "max_open",
    ['[{"token":"t","sender":"s","is_observer":"yes"}]'] = "is_observer",
    ['[{"token":"t","sender":"s","allowed_modes":[1]}]'] = "allowed_modes",
  }) do
    it("refuse " .. text, function()
      local entries, reason = static_bearer.parse(text)
      assert.is_nil(entries)
      assert.truthy(reason:find(expected))
    end)
  end
end)
