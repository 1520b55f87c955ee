-- What trusted code inside an isolate has of the host: digests, JSON, CBOR, protobuf, ordered keys.

local json = require("host.json")

local isolates = require("spec.support.isolates")

local LIMITS = isolates.LIMITS

describe("native functions", function()
  local iso

  setup(function() iso = isolates.boot() end)
  teardown(function() iso:close() end)

  local function native(name, ...)
    local ok, first, second = iso:call("native", LIMITS, name, ...)
    assert.is_true(ok, ok or first.message)
    return first, second
  end

  it("hash and encode", function()
    assert.equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", native("sha256_hex", "abc"))
    assert.equal("00ff41", native("hex", "\0\255A"))
    assert.equal("AP9B", native("base64_encode", "\0\255A"))
    assert.equal("\0\255A", native("base64_decode", "AP9B"))
    local value, message = native("base64_decode", "AP9")
    assert.is_nil(value)
    assert.matches("not base64", message)
    assert.is_true(native("utf8_valid", "\195\164"))
    assert.is_false(native("utf8_valid", "\195"))
  end)

  it("encode and decode JSON", function()
    assert.equal('{"a":[1,2.5],"b":null}', native("json_encode", { b = json.null, a = { 1, 2.5 } }, true))
    assert.same({ x = { 1 } }, native("json_decode", '{"x":[1]}'))
    local value, message = native("json_decode", "{")
    assert.is_nil(value)
    assert.matches("too early", message)
  end)

  it("order keys", function()
    assert.same({ 1, 2, 10, "B", "a", "aa" }, native("sorted_keys", { a = 1, aa = 1, B = 1, 5, 6, [10] = 1 }))
    local _, joined = iso:call("join", LIMITS, { a = "w", "x", "y", [10] = "z" })
    assert.equal("1=x 2=y 10=z a=w ", joined)
    _, joined = iso:call("join", LIMITS, { "x", "y" })
    assert.equal("1=x 2=y ", joined)
  end)

  it("skip keys that the body of a loop removes", function()
    local _, joined = iso:call("join_and_remove", LIMITS, { a = "1", b = "2", c = "3" }, "b")
    assert.equal("a=1 c=3 ", joined)
  end)

  it("encode state deterministically and back", function()
    local state = { b = 1, a = { 1, 2.5, -3, "x", false }, list = json.array({}), big = 2 ^ 53, text = "\255" }
    local bytes = native("cbor_encode", state)
    assert.equal("a5" .. "6161" .. "8501f94100226178f4" .. "6162" .. "01" .. "63626967" .. "1b0020000000000000"
      .. "646c697374" .. "d82980" .. "6474657874" .. "41ff", native("hex", bytes))
    local back = native("cbor_decode", bytes)
    assert.same(state, back)
    assert.is_true(json.is_array(back.list))
    assert.equal(bytes, native("cbor_encode", back))
  end)

  local unstorable = {
    { "local t = {} return { best = t, bids = { ann = t } }",
      "state.bids.ann: the same table is stored twice (first at state.best)" },
    { "local t = { x = {} } t.x.y = t return t", "state.x.y: the table contains itself" },
    { "return { f = print or error }", "state.f: a function cannot be stored" },
    { "return { a = { 1, 2, x = 3 } }", "state.a: the table mixes number keys and string keys" },
    { "return { a = { [1] = 1, [3] = 3 } }", "state.a: number keys must be 1..n without holes" },
    { "return { a = { [2] = 0/0 } }", "state.a: number keys must be 1..n without holes" },
    { "return { a = { 0/0 } }", "state.a[1]: NaN and infinities cannot be stored" },
    { "return { [true] = 1 }", "state: a key is a boolean, keys must be strings" },
  }
  for _, case in ipairs(unstorable) do
    it("refuse to encode " .. case[1], function()
      local ok, bytes, message = iso:call("store", LIMITS, case[1])
      assert.is_true(ok)
      assert.is_nil(bytes)
      assert.equal(case[2], message)
    end)
  end

  it("decode only whole and sound CBOR", function()
    for _, bytes in ipairs({ "", "\129", "\24", "\159\255", "\251\127\240\0\0\0\0\0\0", "\161\1\1", "\1\1",
      "\155\255\255\255\255\255\255\255\255", "\97\255", ("\129"):rep(100) .. "\1" }) do
      local value, message = native("cbor_decode", bytes)
      assert.is_nil(value)
      assert.matches("^CBOR at byte", message)
    end
  end)

  it("make protobuf codecs from field lists", function()
    local ok, hex, filled, empty, failure = iso:call("codec", LIMITS, {
      { name = "id", number = 1, type = "string" },
      { name = "count", number = 2, type = "int64" },
      { name = "tags", number = 3, type = "string", ["repeated"] = true },
      { name = "weights", number = 4, map_value = "double" },
    }, { id = "p1", count = 42, tags = { "a", "b" }, weights = { x = 1.5 } })
    assert.is_true(ok)
    assert.equal("0a027031" .. "102a" .. "1a0161" .. "1a0162" .. "220c0a017811000000000000f83f", hex)
    assert.same({ id = "p1", count = 42, tags = { "a", "b" }, weights = { x = 1.5 } }, filled)
    assert.same({ id = "", count = 0, tags = {}, weights = {} }, empty)
    assert.equal('[]', json.encode(empty.tags))
    assert.equal("count: wrong wire type", failure)
  end)

  it("name the fault in a field list", function()
    for list, text in pairs({ [{ { name = "a", number = 1, type = "int46" } }] = "m.a: unknown type 'int46'",
      [{ { name = "a", number = 0, type = "bool" } }] = "number must be",
      [{ { name = "a b", number = 1, type = "bool" } }] = "not an identifier",
      [{ { name = "a", number = 1, type = "bool" }, { name = "b", number = 1, type = "bool" } }] = "same number 1",
      [{ { name = "a", number = 19000, type = "bool" } }] = "not allowed" }) do
      local ok, err = iso:call("native", LIMITS, "codec", "m", list)
      assert.is_nil(ok)
      assert.matches(text, err.message)
    end
  end)

  it("tell the instructions that are left", function()
    local left = native("instructions_left")
    assert.is_true(left > 990000 and left <= 1000000)
    assert.equal(math.huge, select(2, iso:call("native", nil, "instructions_left")))
  end)
end)
