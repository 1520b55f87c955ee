local modes = require("spec.support.modes")

local function mode_with(payload, encoding)
  return modes.source({ messages = string.format([==[
    Put = { from = "participant", payload = [[%s]], encoding = %q, apply = function(s, p) s.last = p end },]==],
      payload,
    encoding or "proto") })
end

local rev

local function open(payload, encoding)
  rev = modes.build(mode_with(payload, encoding))
  assert(rev:start("s", modes.start()))
end

-- "accepted", or the reason of the refusal.
local function send(bytes)
  local verdict, rejection = rev:submit("s", "Put", "ann", bytes, 0)
  return verdict or rejection.message, rejection
end

local function put(payload)
  return send(modes.encode(rev, "Put", payload))
end

local function last()
  return modes.state(rev).last
end

describe("a compiled payload", function()
  after_each(function()
    if rev then rev:close() end
    rev = nil
  end)

  it("has every declared field, with proto3 zero values", function()
    open("string a = 1; bytes b = 2; bool c = 3; int64 d = 4; double e = 5; repeated string f = 6; "
      .. "map<string, int32> g = 7;")
    assert.equal("accepted", send(""))
    assert.same({ a = "", b = "", c = false, d = 0, e = 0, f = {}, g = {} }, last())
  end)

  it("carries every type", function()
    open("string a = 1; bytes b = 2; bool c = 3; sint64 d = 4; double e = 5; repeated string f = 6; "
      .. "map<string, int32> g = 7;")
    local value = { a = "caf\195\169", b = "\0\255", c = true, d = -(2 ^ 53), e = 0.1, f = { "x", "" }, g = { k = -1 } }
    assert.equal("accepted", put(value))
    assert.same(value, last())
  end)

  it("applies default, case and required in this order", function()
    open('string a = 1 [required]; string b = 2 [default = "Mid", lower, in = "low|mid"]; '
      .. 'int32 c = 3 [default = 7, min = 5];')
    assert.equal("field 'a' must not be blank", send(""))
    assert.equal("field 'a' must not be blank", put({ a = " \t" }))
    assert.equal("accepted", put({ a = "x" }))
    assert.same({ a = "x", b = "mid", c = 7 }, last())
    assert.equal("accepted", put({ a = "x", b = "LOW", c = 5 }))
    assert.equal("low", last().b)
    assert.equal("field 'b' must be one of low, mid, not 'high'", put({ a = "x", b = "HIGH" }))
    assert.equal("field 'c' must be at least 5", put({ a = "x", c = 4 }))
  end)

  it("bounds lengths and counts", function()
    open("string a = 1 [max = 3]; repeated string b = 2 [min = 1, max = 2]; bytes c = 3 [required];")
    assert.equal("field 'a' must have at most 3 bytes", put({ a = "long", b = { "x" }, c = "x" }))
    assert.equal("field 'b' must have at least 1 entries", put({ c = "x" }))
    assert.equal("field 'b' must have at most 2 entries", put({ b = { "x", "y", "z" }, c = "x" }))
    assert.equal("field 'c' must not be empty", put({ b = { "x" } }))
  end)

  it("refuses what is not the declared message", function()
    open("string a = 1; int64 b = 2;")
    assert.truthy(send("\10\255"):find("^Put: "))
    assert.truthy(send("\10\2\255\254"):find("UTF%-8"))
    assert.truthy(send("\8\1"):find("a", 1, true)) -- varint where a string is declared
    assert.equal("accepted", send("\88\1")) -- unknown field 11
  end)

  it("refuses NaN and infinities", function()
    open("double a = 1; float b = 2;")
    assert.truthy(send("\9\0\0\0\0\0\0\248\127"):find("a", 1, true))
    assert.truthy(send("\21\0\0\128\127"):find("b", 1, true))
    assert.equal("accepted", send("\9\0\0\0\0\0\0\240\63"))
  end)

  it("refuses integers beyond 2^53 unless they are wide", function()
    open("int64 a = 1; uint64 b = 2 [wide];")
    local huge = "\255\255\255\255\255\255\255\255\255\1"
    assert.equal("Put: field 'a' is beyond 2^53", send("\8" .. "\128\128\128\128\128\128\128\32"))
    assert.equal("accepted", send("\16" .. huge))
    assert.equal("18446744073709551615", last().b)
    assert.equal("accepted", send("\16\5"))
    assert.equal("5", last().b)
  end)

  it("decodes JSON fields to tables without nulls", function()
    open("json a = 1; repeated json b = 2;")
    assert.equal("accepted", put({ a = '{"x":[1,null,{"y":null}],"z":null}', b = { "{}", "[]" } }))
    assert.equal("accepted", put({ a = { k = "v" } }))
    assert.same({ k = "v" }, last().a)
    assert.truthy(put({ a = "5" }):find("not a JSON object or array", 1, true))
    assert.truthy(put({ a = "{" }):find("Put: field 'a'", 1, true))
    assert.truthy(put({ a = ("["):rep(20) .. ("]"):rep(20) }):find("Put: field 'a'", 1, true))
  end)

  it("names unknown fields when it encodes", function()
    open("string a = 1;")
    local _, bytes, problem = rev.iso:call("encode_payload", nil, "Put", { b = 1 })
    assert.is_nil(bytes)
    assert.equal("unknown field 'b'", problem)
  end)

  it("reads JSON payloads when the mode says so", function()
    open("string a = 1 [required]; int32 n = 2;", "json")
    assert.equal("accepted", send('{"a":"x","n":3,"other":true}'))
    assert.same({ a = "x", n = 3 }, last())
    assert.equal("Put: field 'n' must be a number", send('{"a":"x","n":"3"}'))
    assert.truthy(send("nonsense"):find("not a JSON object", 1, true))
    assert.equal("field 'a' must not be blank", send(""))
  end)

  it("prefers JSON over proto unless the bytes are also canonical proto", function()
    open("string value = 1;", "json|proto")
    assert.equal("accepted", send('{"value":"red"}'))
    assert.equal("red", last().value)
    assert.equal("accepted", send("\10\3red"))
    assert.equal("red", last().value)
    -- tag 0x0A is JSON white space; length 0x20 is a space: both readings are exact
    local inner = '{"value":"' .. ("x"):rep(32 - 12) .. '"}'
    assert.equal(32, #inner)
    assert.equal("accepted", send("\10 " .. inner))
    assert.equal(inner, last().value)
  end)

  it("that costs too much to read is refused without blaming the mode", function()
    open("map<string, string> m = 1; repeated string r = 2 [upper]; json j = 3;")
    local entries = {}
    for i = 1, 90000 do
      local key = string.format("%05d", i)
      entries[i] = "\10\7\10\5" .. key
    end
    local costly = { table.concat(entries), ("\18\1x"):rep(340000), "\26\195\132\61[" .. ("[],"):rep(333333) .. "[]]" }
    local refused = 0
    for _, bytes in ipairs(costly) do
      local before = rev:state_hash("s")
      local verdict, r = rev:submit("s", "Put", "ann", bytes, 0)
      if verdict == nil then
        refused = refused + 1
        assert.equal("INVALID_ENVELOPE", r.code)
        assert.truthy(r.message:find("too costly to read", 1, true), r.message)
        assert.is_nil(r.author_error)
        assert.equal(before, rev:state_hash("s"))
      end
    end
    assert.is_true(refused >= 2)
    assert.is_nil(rev.faulty)
  end)

  it("checks new and ref against the state", function()
    rev = modes.build(modes.source({ messages = [==[
      Put = { from = "participant", payload = "string key = 1 [new = items];", apply = function(s,
        p) s.items[p.key] = {} end },
      Get = { from = "participant", payload = "string key = 1 [ref = items];" },]==] }))
    assert(rev:start("s", modes.start()))
    local key = modes.encode(rev, "Put", { key = "k" })
    local _, missing = rev:submit("s", "Get", "ann", key, 0)
    assert.equal("field 'key' 'k' does not exist", missing.message)
    assert.equal("accepted", (rev:submit("s", "Put", "ann", key, 0)))
    assert.equal("accepted", (rev:submit("s", "Get", "ann", key, 0)))
    local _, twice = rev:submit("s", "Put", "ann", key, 0)
    assert.equal("field 'key' 'k' already exists", twice.message)
    assert.equal("messages.Put.payload.key", twice.rule)
  end)
end)
