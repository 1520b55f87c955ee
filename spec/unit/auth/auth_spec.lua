local api_key = require("macp.auth.api_key")
local chain = require("macp.auth.chain")
local scopes = require("macp.auth.scopes")

local function request(authorization)
  return { headers = { authorization = authorization }, peer = "127.0.0.1" }
end

describe("api keys", function()
  local keys = api_key.new({ "first-key", "second key" })

  local accepted = { "Bearer first-key", "first-key", "Bearer second key", "second key" }
  for _, value in ipairs(accepted) do
    it("accepts " .. value, function()
      local actor = assert(keys:resolve(request(value)))
      assert.same({ "api-key", "default" }, { actor.type, actor.tenant })
      assert.truthy(actor.id:find("^%x%x%x%x%x%x%x%x$"))
      assert.is_nil(actor.id:find("first", 1, true))
    end)
  end

  it("gives each key its own identity", function()
    assert.are_not.equal(keys:resolve(request("first-key")).id, keys:resolve(request("second key")).id)
  end)

  local refused = {
    { nil, "Missing Authorization header" }, { "", "Empty authorization token" },
    { "Bearer ", "Empty authorization token" }, { "Bearer", "Empty authorization token" },
    { "bearer first-key", "Invalid authorization token" },
    { "Bearer  first-key", "Invalid authorization token" }, { "Bearer wrong", "Invalid authorization token" },
    { "first-ke", "Invalid authorization token" }, { "first-key ", "Invalid authorization token" },
  }
  for _, case in ipairs(refused) do
    it(string.format("refuses %q", tostring(case[1])), function()
      local actor, err = keys:resolve(request(case[1]))
      assert.is_nil(actor)
      assert.same({ "UNAUTHENTICATED", 401, case[2] }, { err.code, err.http, err.message })
    end)
  end

  it("lets everybody in when there are no keys", function()
    local open = api_key.new({})
    assert.equal("anonymous", open:resolve(request(nil)).type)
    assert.equal("anonymous", open:resolve(request("whatever")).type)
  end)
end)

describe("auth chain", function()
  local function resolver(actor, err)
    return { resolve = function(self)
      self.calls = (self.calls or 0) + 1
      return actor, err
    end }
  end

  it("takes the first resolver that knows the caller", function()
    local unused = resolver({ id = "c" })
    local actor = chain.new({ resolver(nil), resolver({ id = "b" }), unused }):authenticate(request("x"))
    assert.equal("b", actor.id)
    assert.is_nil(unused.calls)
  end)

  it("stops at a credential that is recognised and invalid", function()
    local unused = resolver({ id = "c" })
    local actor, err = chain.new({ resolver(nil, { code = "UNAUTHENTICATED" }), unused }):authenticate(request("x"))
    assert.same({ nil, "UNAUTHENTICATED" }, { actor, err.code })
    assert.is_nil(unused.calls)
  end)

  it("refuses when nobody knows the caller", function()
    local _, err = chain.new({ resolver(nil) }):authenticate(request(nil))
    assert.equal("Missing Authorization header", err.message)
  end)
end)

describe("scopes", function()
  local cases = {
    { nil, "runs:write", true }, { {}, "runs:write", false }, { { ["runs:write"] = true }, "runs:write", true },
    { { ["runs:read"] = true }, "runs:write", false }, { { ["runs:*"] = true }, "runs:write", true },
    { { ["*"] = true }, "admin:write", true }, { { ["run:*"] = true }, "runs:write", false }, { {}, nil, true },
  }
  for i, case in ipairs(cases) do
    it("allows or refuses, case " .. i, function()
      assert.equal(case[3], scopes.allows({ scopes = case[1] }, case[2]))
    end)
  end
end)
