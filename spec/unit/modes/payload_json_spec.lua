local modes = require("spec.support.modes")

local rev

local function open(payload, encoding)
  rev = modes.build(modes.source({ messages = string.format([==[
    Put = { from = "participant", payload = [[%s]], encoding = %q, apply = function(s, p) s.last = p end },]==],
      payload, encoding) }))
  assert(rev:start("s", modes.start()))
end

-- "accepted", or the reason of the refusal.
local function send(bytes)
  local verdict, rejection = rev:submit("s", "Put", "ann", bytes, 0)
  return verdict or rejection.message, rejection
end

local function last() return modes.state(rev).last end

local ALL = "string text = 1; int32 i = 2; uint32 u = 3; int64 n = 4; int64 w = 5 [wide]; uint64 v = 6 [wide]; "
  .. "double d = 7; bool f = 8; bytes b = 9; json j = 10; repeated string r = 11; map<string, int32> m = 12; "
  .. "repeated bytes k = 13;"

for _, encoding in ipairs({ "json", "json|proto" }) do
  describe("a payload in " .. encoding, function()
    before_each(function() open(ALL, encoding) end)

    after_each(function()
      rev:close()
      rev = nil
    end)

    it("carries every type; members that are not declared are ignored, null is absent", function()
      assert.equal("accepted", send([[{"text":"caf\u00e9","i":-2147483648,"u":4294967295,"n":-9007199254740992,
        "w":"-9223372036854775808","v":18,"d":1.5,"f":true,"b":"AP8=","j":{"a":null,"c":[1]},"r":["x",""],
        "m":{"k":-1},"k":["AQ=="],"unknown":{}}]]))
      assert.same({ text = "caf\195\169", i = -2147483648, u = 4294967295, n = -9007199254740992,
        w = "-9223372036854775808", v = "18", d = 1.5, f = true, b = "\0\255", j = { c = { 1 } }, r = { "x", "" },
        m = { k = -1 }, k = { "\1" } }, last())
      assert.equal("accepted", send('{"text":null,"r":null,"f":false}'))
      assert.same({ text = "", i = 0, u = 0, n = 0, w = "0", v = "0", d = 0, f = false, b = "", j = {}, r = {}, m = {},
        k = {} }, last())
    end)

    it("takes 64-bit integers as decimal text", function()
      assert.equal("accepted", send('{"n":"-5","w":"007","v":"18446744073709551615"}'))
      assert.same({ -5, "7", "18446744073709551615" }, { last().n, last().w, last().v })
    end)

    it("judges values as the proto form does", function()
      for text, reason in pairs({
        ['{"n":1.5}'] = "field 'n' must be a whole number", ['{"n":true}'] = "field 'n' must be a number",
        ['{"n":9007199254740994}'] = "field 'n' is beyond 2^53",
        ['{"n":"9007199254740993000"}'] = "field 'n' is beyond 2^53",
        ['{"i":"5"}'] = "field 'i' must be a number",
        ['{"i":2147483648}'] = "field 'i' is out of the range of int32",
        ['{"u":-1}'] = "field 'u' is out of the range of uint32",
        ['{"v":-1}'] = "field 'v' is out of the range of uint64",
        ['{"v":"-1"}'] = "field 'v' must be a whole number of type uint64",
        ['{"w":"9223372036854775808"}'] = "field 'w' must be a whole number of type int64",
        ['{"w":"x"}'] = "field 'w' must be a whole number of type int64",
        ['{"text":5}'] = "field 'text' must be a string", ['{"f":1}'] = "field 'f' must be a boolean",
        ['{"j":"{}"}'] = "field 'j' must be a table", ['{"b":"no base64"}'] = "field 'b' must be base64",
        ['{"r":[1]}'] = "field 'r' must be a string", ['{"r":{"a":"b"}}'] = "field 'r' must be an array",
        ['{"m":[1]}'] = "field 'm' must be an object", ['{"m":{"a":"b"}}'] = "field 'm' must be a number",
        ['{"m":{"a":0.5}}'] = "field 'm' must be a whole number", ['{"k":["?"]}'] = "field 'k' must be base64",
      }) do
        assert.equal("Put: " .. reason, (send(text)), text)
      end
      assert.is_nil(last())
    end)

    it("writes what it reads", function()
      local value = { text = "x", n = 3, b = "\0\255", r = {}, k = { "\1" }, m = { a = 1 } }
      assert.equal("accepted", send(modes.encode(rev, "Put", value)))
      for name, item in pairs(value) do assert.same(item, last()[name]) end
    end)
  end)
end

describe("a wide integer", function()
  after_each(function()
    rev:close()
    rev = nil
  end)

  it("has bounds, a default and a zero like any other", function()
    open("int64 w = 1 [wide, required, min = 5, max = 9]; int64 x = 2 [wide, default = 7];", "proto")
    local function put(payload) return send(modes.encode(rev, "Put", payload)) end
    assert.equal("field 'w' must not be zero", put({}))
    assert.equal("field 'w' must be at least 5", put({ w = "4" }))
    assert.equal("field 'w' must be at most 9", put({ w = "9223372036854775807" }))
    assert.equal("accepted", put({ w = "5" }))
    assert.same({ w = "5", x = "7" }, last())
  end)
end)
