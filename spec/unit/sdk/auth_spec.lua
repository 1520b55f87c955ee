local auth = require("macp.sdk.auth")
local sdk_errors = require("macp.sdk.errors")

local function raised(fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok)
  return err
end

describe("a credential", function()
  it("needs a token", function()
    assert.is_true(sdk_errors.is(raised(auth.for_bearer, ""), "MacpSdkError"))
    assert.equal("bearer_token is required", raised(auth.new, {}).message)
  end)

  it("of development names the agent and guards it", function()
    local ana = auth.for_dev_agent("ana")
    assert.same({ authorization = "Bearer ana" }, ana:metadata())
    assert.equal("ana", ana:resolve_sender(""))
    assert.equal("ana", ana:resolve_sender("ana"))
    local err = raised(ana.resolve_sender, ana, "ben")
    assert.is_true(sdk_errors.is(err, "MacpIdentityMismatchError"))
    assert.same({ "ana", "ben" }, { err.expected, err.actual })
  end)

  it("may expect another sender than its token says", function()
    local lead = auth.for_dev_agent("token", { expected_sender = "agent://lead" })
    assert.equal("agent://lead", lead:resolve_sender(""))
    assert.same({ authorization = "Bearer token" }, lead:metadata())
  end)

  it("without an expectation sends as whom it is told, or leaves it to the runtime", function()
    local token = auth.for_bearer("k7")
    assert.equal("", token:resolve_sender(""))
    assert.equal("", token:resolve_sender(nil))
    assert.equal("ben", token:resolve_sender("ben"))
    assert.equal("ana", auth.for_bearer("k7", { sender_hint = "ana" }):resolve_sender(""))
    assert.equal("ben", auth.for_bearer("k7", { sender_hint = "ana" }):resolve_sender("ben"))
  end)

  it("prefers the expected sender over a hint", function()
    assert.equal("ana", auth.for_bearer("k", { sender_hint = "x", expected_sender = "ana" }):resolve_sender(""))
  end)
end)
