-- Protobuf codecs, compared with bytes that protoc wrote for the same message.

local crypto = require("host.crypto")
local json = require("host.json")
local proto = require("host.proto")

--[[ protoc --descriptor_set_out of:
syntax = "proto3";
package t;
enum Colour { NONE = 0; RED = 1; BLUE = -2; }
message Inner { string a = 1; int32 b = 2; Inner next = 3; }
message All {
  double d = 1; float f = 2; int32 i32 = 3; int64 i64 = 4; uint32 u32 = 5; uint64 u64 = 6;
  sint32 s32 = 7; sint64 s64 = 8; fixed32 f32 = 9; fixed64 f64 = 10; sfixed32 sf32 = 11; sfixed64 sf64 = 12;
  bool flag = 13; string text = 14; bytes data = 15; Colour colour = 16; Inner inner = 17;
  repeated int32 numbers = 18; repeated string words = 19; repeated Inner inners = 20;
  map<string, int32> by_name = 21; map<int32, Inner> by_number = 22; map<bool, string> by_flag = 23;
  oneof choice { string word = 24; int32 number = 25; Inner thing = 26; }
  optional int32 maybe = 27;
  repeated int32 loose = 28 [packed = false];
  repeated Colour colours = 29; repeated double doubles = 100;
  map<int64, Colour> by_big = 101; optional string maybe_text = 102;
}
]]
local DESCRIPTORS = table.concat({
  "CvwJCglhbGwucHJvdG8SAXQiQQoFSW5uZXISDAoBYRgBIAEoCVIBYRIMCgFiGAIgASgFUgFiEhwKBG5leHQYAyABKAsyCC50",
  "LklubmVyUgRuZXh0IvAICgNBbGwSDAoBZBgBIAEoAVIBZBIMCgFmGAIgASgCUgFmEhAKA2kzMhgDIAEoBVIDaTMyEhAKA2k2",
  "NBgEIAEoA1IDaTY0EhAKA3UzMhgFIAEoDVIDdTMyEhAKA3U2NBgGIAEoBFIDdTY0EhAKA3MzMhgHIAEoEVIDczMyEhAKA3M2",
  "NBgIIAEoElIDczY0EhAKA2YzMhgJIAEoB1IDZjMyEhAKA2Y2NBgKIAEoBlIDZjY0EhIKBHNmMzIYCyABKA9SBHNmMzISEgoE",
  "c2Y2NBgMIAEoEFIEc2Y2NBISCgRmbGFnGA0gASgIUgRmbGFnEhIKBHRleHQYDiABKAlSBHRleHQSEgoEZGF0YRgPIAEoDFIE",
  "ZGF0YRIhCgZjb2xvdXIYECABKA4yCS50LkNvbG91clIGY29sb3VyEh4KBWlubmVyGBEgASgLMggudC5Jbm5lclIFaW5uZXIS",
  "GAoHbnVtYmVycxgSIAMoBVIHbnVtYmVycxIUCgV3b3JkcxgTIAMoCVIFd29yZHMSIAoGaW5uZXJzGBQgAygLMggudC5Jbm5l",
  "clIGaW5uZXJzEisKB2J5X25hbWUYFSADKAsyEi50LkFsbC5CeU5hbWVFbnRyeVIGYnlOYW1lEjEKCWJ5X251bWJlchgWIAMo",
  "CzIULnQuQWxsLkJ5TnVtYmVyRW50cnlSCGJ5TnVtYmVyEisKB2J5X2ZsYWcYFyADKAsyEi50LkFsbC5CeUZsYWdFbnRyeVIG",
  "YnlGbGFnEhQKBHdvcmQYGCABKAlIAFIEd29yZBIYCgZudW1iZXIYGSABKAVIAFIGbnVtYmVyEiAKBXRoaW5nGBogASgLMggu",
  "dC5Jbm5lckgAUgV0aGluZxIZCgVtYXliZRgbIAEoBUgBUgVtYXliZYgBARIYCgVsb29zZRgcIAMoBUICEABSBWxvb3NlEiMK",
  "B2NvbG91cnMYHSADKA4yCS50LkNvbG91clIHY29sb3VycxIYCgdkb3VibGVzGGQgAygBUgdkb3VibGVzEigKBmJ5X2JpZxhl",
  "IAMoCzIRLnQuQWxsLkJ5QmlnRW50cnlSBWJ5QmlnEiIKCm1heWJlX3RleHQYZiABKAlIAlIJbWF5YmVUZXh0iAEBGjkKC0J5",
  "TmFtZUVudHJ5EhAKA2tleRgBIAEoCVIDa2V5EhQKBXZhbHVlGAIgASgFUgV2YWx1ZToCOAEaRQoNQnlOdW1iZXJFbnRyeRIQ",
  "CgNrZXkYASABKAVSA2tleRIeCgV2YWx1ZRgCIAEoCzIILnQuSW5uZXJSBXZhbHVlOgI4ARo5CgtCeUZsYWdFbnRyeRIQCgNr",
  "ZXkYASABKAhSA2tleRIUCgV2YWx1ZRgCIAEoCVIFdmFsdWU6AjgBGkMKCkJ5QmlnRW50cnkSEAoDa2V5GAEgASgDUgNrZXkS",
  "HwoFdmFsdWUYAiABKA4yCS50LkNvbG91clIFdmFsdWU6AjgBQggKBmNob2ljZUIICgZfbWF5YmVCDQoLX21heWJlX3RleHQq",
  "LgoGQ29sb3VyEggKBE5PTkUQABIHCgNSRUQQARIRCgRCTFVFEP7//////////wFiBnByb3RvMw==",
})

-- protoc --encode of the table below
local FULL_HEX = table.concat({
  "09000000000000f83f150000803e18ffffffffffffffffff0120ffffffffffffffefff0128ffffffff0f30ffffffffffffff",
  "ffff01380340054d040000005105000000000000005dfaffffff61f9ffffffffffffff6801720368c3a97a0200ff8001feff",
  "ffffffffffffff018a01070a01781a02100292010301ac029a0101619a0100a20100a201021001aa01050a01611001aa0105",
  "0a01621000b20107080712030a0171ba010708011203796573c80100d80100e00101e00102ea010b01feffffffffffffffff",
  "01a20610000000000000f83f00000000000000c0aa060d08fbffffffffffffffff011001",
})

local FULL = {
  d = 1.5, f = 0.25, i32 = -1, i64 = "-9007199254740993", u32 = 4294967295, u64 = "18446744073709551615",
  s32 = -2, s64 = -3, f32 = 4, f64 = 5, sf32 = -6, sf64 = -7, flag = true, text = "h\195\169", data = "\0\255",
  colour = "BLUE", inner = { a = "x", next = { b = 2 } }, numbers = { 1, 300 }, words = { "a", "" },
  inners = { {}, { b = 1 } },
  by_name = { a = 1, b = 0 }, by_number = { [7] = { a = "q" } },
  by_flag = { [true] = "yes" }, number = 0, maybe = 0, loose = { 1, 2 },
  colours = { "RED", "BLUE" }, doubles = { 1.5, -2 },
  by_big = { [-5] = "RED" },
}

local function unhex(text) return assert(crypto.unhex(text)) end

describe("host.proto", function()
  local pool, codec

  setup(function()
    pool = assert(proto.load(assert(crypto.base64_decode(DESCRIPTORS))))
    codec = assert(pool:codec("t.All"))
  end)

  it("lists and describes messages", function()
    assert.same({ "t.All", "t.Inner" }, pool:messages())
    local fields = pool:describe("t.Inner")
    assert.same({ "a", 1, "string", false }, { fields[1].name, fields[1].number, fields[1].type, fields[1].presence })
    assert.same({ "next", "message", "t.Inner", true },
      { fields[3].name, fields[3].type, fields[3].message, fields[3].presence })
    local by_name = pool:describe("t.All")[21]
    assert.same({ "by_name", "byName", "string", "int32" },
      { by_name.name, by_name.json_name, by_name.map_key, by_name.map_value })
    local value, err = pool:describe("t.Nothing")
    assert.is_nil(value)
    assert.equal("NOT_FOUND", err.code)
  end)

  it("writes the bytes that protoc writes", function()
    assert.equal(FULL_HEX, crypto.hex(assert(codec:encode(FULL))))
  end)

  it("reads what protoc wrote", function()
    local value = assert(codec:decode(unhex(FULL_HEX)))
    assert.same(FULL, value)
    assert.is_true(json.is_array(value.words))
    assert.is_false(json.is_array(value.by_name))
  end)

  it("fills in zero values when asked", function()
    local filled = assert(pool:codec("t.All", { defaults = true }))
    local value = assert(filled:decode(""))
    assert.same({ d = 0, f = 0, i32 = 0, i64 = 0, u32 = 0, u64 = 0, s32 = 0, s64 = 0, f32 = 0, f64 = 0,
      sf32 = 0, sf64 = 0, flag = false, text = "", data = "", colour = "NONE", numbers = {}, words = {}, inners = {},
      by_name = {},
      by_number = {}, by_flag = {}, loose = {}, colours = {}, doubles = {}, by_big = {} }, value)
    assert.equal("[]", json.encode(value.words))
    assert.equal("", filled:encode(value))
    assert.same({}, codec:decode(""))
  end)

  it("uses JSON names, base64, numbers and strings when asked", function()
    local options = { names = "json", bytes = "base64", enums = "number", int64 = "string" }
    local other = assert(pool:codec("t.All", options))
    local value = assert(other:decode(unhex(FULL_HEX)))
    assert.same({ "AP8=", -2, "-3", { 1, -2 }, 1 },
      { value.data, value.colour, value.s64, value.colours, value.byName.a })
    assert.equal(FULL_HEX, crypto.hex(assert(other:encode(value))))
    assert.has_error(function() pool:codec("t.All", { names = "camel" }) end)
  end)

  it("keeps whole 64-bit values exact", function()
    assert.equal("308080808080808010", crypto.hex(assert(codec:encode({ u64 = 2 ^ 53 }))))
    for _, number in ipairs({ 2 ^ 53, -2 ^ 53, -1, 2 ^ 31, -2 ^ 31 - 1 }) do
      assert.equal(number, codec:decode(assert(codec:encode({ i64 = number, s64 = number }))).i64)
    end
    for _, text in ipairs({ "9223372036854775807", "-9223372036854775808" }) do
      assert.equal(text, codec:decode(assert(codec:encode({ i64 = text, s64 = text }))).s64)
    end
  end)

  it("reads packed and unpacked numbers, in any order", function()
    assert.same({ loose = { 1, 2 }, numbers = { 5, 6 } },
      codec:decode(unhex("e20102" .. "0102" .. "9001059001" .. "06")))
  end)

  it("skips unknown fields of every wire type", function()
    assert.same({ i32 = 1 },
      codec:decode(unhex("e03f01" .. "1801" .. "e23f0161" .. "e13f0000000000000000" .. "e53f00000000")))
  end)

  it("keeps unknown enum numbers", function()
    local value = codec:decode(unhex("8001" .. "07"))
    assert.equal(7, value.colour)
    assert.equal("800107", crypto.hex(codec:encode(value)))
  end)

  it("lets the last member of a oneof win and merges repeated messages", function()
    assert.same({ number = 5 }, codec:decode(unhex("c201" .. "0161" .. "c801" .. "05")))
    assert.same({ inner = { a = "x", b = 2 } }, codec:decode(unhex("8a01030a0178" .. "8a01021002")))
  end)

  it("gives map entries defaults for what they lack", function()
    assert.same({ by_name = { [""] = 0 }, by_number = { [0] = {} } }, codec:decode(unhex("aa0100" .. "b20100")))
  end)

  local broken = {
    { "1", "malformed field tag", "80" },
    { "a length beyond the end", "text: the bytes end too early", "72057878" },
    { "an endless varint", "i32: malformed varint", "18ffffffffffffffffffff01" },
    { "invalid UTF-8", "text: not valid UTF-8", "7201ff" },
    { "invalid UTF-8 deep inside", "inners[2].next.a: not valid UTF-8", "a20100" .. "a201051a030a01ff" },
    { "the wrong wire type", "text: wrong wire type", "7001" },
    { "a group", "malformed unknown field", "e33f" },
    { "field number zero", "malformed field tag", "0001" },
    { "half a double", "d: the bytes end too early", "0900000000" },
    { "packed numbers cut short", "numbers[2]: malformed varint", "9201020180" },
  }
  for _, case in ipairs(broken) do
    it("refuses " .. case[1], function()
      local value, err = codec:decode(unhex(case[3]))
      assert.is_nil(value)
      assert.same({ "INVALID", case[2] }, { err.code, err.message })
    end)
  end

  it("refuses nesting without end, both ways", function()
    local bytes = ""
    for _ = 1, 100 do
      local len = #bytes
      local prefix = len < 128 and string.char(len) or string.char(len % 128 + 128, math.floor(len / 128))
      bytes = "\26" .. prefix .. bytes
    end
    local inner = assert(pool:codec("t.Inner"))
    local value, err = inner:decode(bytes)
    assert.is_nil(value)
    assert.matches("nested too deeply$", err.message)
    local loop = {}
    loop.next = loop
    value, err = inner:encode(loop)
    assert.is_nil(value)
    assert.matches("nested too deeply", err.message)
  end)

  local unencodable = {
    { { text = 1 }, "text: string expected, got number" },
    { { i32 = 1.5 }, "i32: a whole number expected" },
    { { i32 = 2 ^ 31 }, "i32: out of range" },
    { { u32 = -1 }, "u32: out of range" },
    { { u64 = "x" }, "u64: a whole number or its decimal text expected" },
    { { i64 = 2 ^ 60 }, "i64: a whole number expected" },
    { { flag = 1 }, "flag: boolean expected, got number" },
    { { colour = "GREEN" }, "colour: 'GREEN' is not a value of t.Colour" },
    { { text = "\255" }, "text: not valid UTF%-8" },
    { { words = { "a", 2 } }, "words%[2%]: string expected, got number" },
    { { inner = { next = { c = 1 } } }, "inner.next: t.Inner has no field 'c'" },
    { { by_name = { a = "x" } }, "by_name.a: " },
    { { word = "a", number = 1 }, "exclude each other" },
    { { nothing = 1 }, "t.All has no field 'nothing'" },
  }
  for _, case in ipairs(unencodable) do
    it("refuses to encode: " .. case[2], function()
      local bytes, err = codec:encode(case[1])
      assert.is_nil(bytes)
      assert.matches(case[2], err.message)
    end)
  end

  it("sorts map entries, so bytes are reproducible", function()
    local first, second = {}, {}
    for i = 1, 50 do first["k" .. i] = i end
    for i = 50, 1, -1 do second["k" .. i] = i end
    assert.equal(codec:encode({ by_name = first }), codec:encode({ by_name = second }))
  end)

  it("writes long nested messages", function()
    for _, len in ipairs({ 120, 130, 16380, 16390, 3000000 }) do
      local value = { inner = { next = { a = ("x"):rep(len) } } }
      assert.same(value, codec:decode(assert(codec:encode(value))))
    end
  end)

  it("reads host.bytes", function()
    local bytes = require("host.bytes")
    assert.same({ i32 = 1 }, codec:decode(bytes.new("\24\1")))
  end)

  it("refuses descriptor sets that make no sense", function()
    for _, text in ipairs({ "nonsense", "\10\5\34\3\10\1\65\10\5\34\3\10\1\65" }) do
      local value, err = proto.load(text)
      assert.is_nil(value)
      assert.equal("INVALID", err.code)
    end
  end)

  it("refuses NaN and infinities when asked", function()
    local strict = assert(pool:codec("t.All", { finite = true }))
    local bytes = assert(codec:encode({ d = 1 / 0 }))
    assert.equal(1 / 0, codec:decode(bytes).d)
    local value, err = strict:decode(bytes)
    assert.is_nil(value)
    assert.equal("d: not a finite number", err.message)
    assert.is_nil((strict:encode({ f = 0 / 0 })))
  end)

  it("builds a message from a list of fields", function()
    local small = assert(proto.fields("m.Vote", {
      { name = "proposal_id", number = 1, type = "string" },
      { name = "weight", number = 3, type = "double" },
      { name = "tags", number = 2, type = "string", ["repeated"] = true },
    }))
    local vote = assert(small:codec("m.Vote", { names = "json" }))
    local bytes = assert(vote:encode({ proposalId = "p", tags = { "a" }, weight = 2 }))
    assert.equal("0a0170" .. "120161" .. "190000000000000040", crypto.hex(bytes))
    assert.same({ proposalId = "p", tags = { "a" }, weight = 2 }, vote:decode(bytes))
    local value, err = proto.fields("m.Bad", { { name = "a", number = 1, type = "int46" } })
    assert.is_nil(value)
    assert.equal("m.Bad.a: unknown type 'int46'", err.message)
  end)
end)
