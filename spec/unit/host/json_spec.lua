-- JSON both ways: exact numbers, array marks, strict grammar, located faults.

local json = require("host.json")

describe("json.encode", function()
  local cases = {
    { json.null, "null" }, { true, "true" }, { "", '""' }, { 0, "0" }, { -7, "-7" },
    { 1e15, "1000000000000000" },
    { 2 ^ 53, "9007199254740992" }, { -(2 ^ 53), "-9007199254740992" }, { 0.1, "0.1" },
    { 1 / 3, "0.3333333333333333" },
    { 5e-324, "4.94065645841247e-324" }, { 1e300, "1e+300" }, { 1732180000000, "1732180000000" },
    { 123456.789, "123456.789" },
    { 0.1 + 0.2, "0.30000000000000004" }, { "a/b", '"a/b"' }, { 'q"\\', [["q\"\\"]] },
    { "\b\f\n\r\t\1\31", [["\b\f\n\r\t\u0001\u001f"]] },
    { "a\0b", [["a\u0000b"]] }, { "h\195\169", '"h\195\169"' },
    { "bad\255\195", '"bad\239\191\189\239\191\189"' },
    { {}, "{}" }, { json.array({}), "[]" }, { json.array(), "[]" }, { { 1, { 2 } }, "[1,[2]]" },
    { { a = 1 }, '{"a":1}' },
    { json.object({}), "{}" }, { { [2.5] = 1 }, '{"2.5":1}' }, { json.raw('{"x": 1}'), '{"x": 1}' },
    { { a = json.raw("[1]") }, '{"a":[1]}' }, { { 1, json.null, 3 }, "[1,null,3]" },
  }
  for _, case in ipairs(cases) do
    it("writes " .. case[2], function() assert.equal(case[2], json.encode(case[1])) end)
  end

  it("sorts keys when asked", function()
    local value = {}
    for i = 1, 40 do value["k" .. i] = i end
    local keys = {}
    for key in json.encode(value, { sorted = true }):gmatch('"(k%d+)"') do keys[#keys + 1] = key end
    local expected = {}
    for key in pairs(value) do expected[#expected + 1] = key end
    table.sort(expected)
    assert.same(expected, keys)
  end)

  it("writes for people when asked", function()
    assert.equal('{\n  "a": [\n    1,\n    2\n  ],\n  "b": {},\n  "c": []\n}',
      json.encode({ a = { 1, 2 }, b = {}, c = json.array({}) }, { sorted = true, pretty = true }))
  end)

  local refused = {
    { { a = { b = print } }, "a.b: a function has no JSON form" },
    { { { 0 / 0 } }, "%[1%]%[1%]: NaN and infinities" },
    { { x = 1 / 0 }, "x: NaN and infinities" },
    { { [true] = 1 }, "a key of type boolean" },
    { { 1, 2, x = 3 }, "an array with other keys" },
    { { a = json.array({ x = 1 }) }, "a: an array with other keys" },
  }
  for _, case in ipairs(refused) do
    it("refuses: " .. case[2], function()
      local ok, message = pcall(json.encode, case[1])
      assert.is_false(ok)
      assert.matches(case[2], message)
      ok, message = pcall(json.encode, case[1], { sorted = true })
      assert.is_false(ok)
      assert.matches(case[2], message)
    end)
  end

  it("refuses cycles and deep nesting", function()
    local loop = {}
    loop.a = { loop }
    assert.error_matches(function() json.encode(loop) end, "nested too deeply")
    local deep = 1
    for _ = 1, 64 do deep = { deep } end
    assert.equal(("["):rep(64) .. "1" .. ("]"):rep(64), json.encode(deep))
    assert.error_matches(function() json.encode({ deep }) end, "nested too deeply")
  end)

  it("works again after a failure", function()
    pcall(json.encode, { ("x"):rep(1000), print })
    assert.equal("[1]", json.encode({ 1 }))
  end)

  it("calls no metamethods", function()
    local value = setmetatable({ a = 1 }, { __index = function() error("called") end, __tostring = error })
    assert.equal('{"a":1}', json.encode(value))
  end)

  it("writes long texts", function()
    local text = ("\1"):rep(100000)
    assert.equal(600002, #json.encode(text))
    assert.equal(text, json.decode(json.encode(text)))
  end)
end)

describe("json.decode", function()
  local cases = {
    { "null", json.null }, { " true ", true }, { "false", false }, { "0", 0 }, { "-0", 0 },
    { "12345678901234567890", 12345678901234567890 },
    { "9007199254740993", 9007199254740992 }, { "1.5e3", 1500 }, { "1E-2", 0.01 }, { "-1.25", -1.25 },
    { "0.1", 0.1 },
    { "5e-324", 5e-324 }, { '""', "" }, { '"a\\/b"', "a/b" }, { [["\b\f\n\r\t\"\\"]], '\b\f\n\r\t"\\' },
    { [["\u00e9\u0000"]], "\195\169\0" },
    { [["\ud83d\ude00"]], "\240\159\152\128" }, { '"h\195\169"', "h\195\169" }, { "[]", {} }, { "{}", {} },
    { "[1,[2,{}],\"x\"]", { 1, { 2, {} }, "x" } },
    { '{"a":{"b":[null]},"a2":1}', { a = { b = { json.null } }, a2 = 1 } },
    { '{"a":1,"a":2}', { a = 2 } }, { '\t\r\n [ 1 , 2 ] ', { 1, 2 } },
  }
  for _, case in ipairs(cases) do
    it("reads " .. case[1], function() assert.same(case[2], (json.decode(case[1]))) end)
  end

  it("marks arrays, empty ones included", function()
    local value = json.decode('{"a":[],"b":{},"c":[1]}')
    assert.is_true(json.is_array(value.a))
    assert.is_false(json.is_array(value.b))
    assert.is_true(json.is_array(value.c))
    assert.equal('{"a":[],"b":{},"c":[1]}', json.encode(value, { sorted = true }))
  end)

  local refused = {
    { "", "line 1, column 1: the text ends too early" },
    { "nul", "line 1, column 1: a value is expected" },
    { "nullx", "line 1, column 5: nothing may follow the value" },
    { "[1,]", "line 1, column 4: a value is expected" },
    { "[1 2]", "line 1, column 4: ',' or ']' is expected" },
    { '{"a" 1}', "line 1, column 6: ':' is expected" },
    { '{a:1}', "line 1, column 2: a member name in quotes is expected" },
    { '{"a":1,}', "line 1, column 8: a member name in quotes is expected" },
    { '{\n  "a": 1\n  "b": 2\n}', "line 3, column 3: ',' or '}' is expected" },
    { "[1", "line 1, column 3: the text ends too early" },
    { '"abc', "line 1, column 5: the text ends too early" },
    { '"a\nb"', "line 1, column 3: a control character must be escaped in a string" },
    { '"\\x"', "line 1, column 3: unknown escape" },
    { '"\\u12g4"', "line 1, column 4: four hexadecimal digits must follow \\u" },
    { '"\\ud800"', "line 1, column 4: a lone surrogate is not a character" },
    { '"\\ude00x"', "line 1, column 4: a lone surrogate is not a character" },
    { '"\255"', "line 1, column 2: the text is not valid UTF-8" },
    { '"\237\160\128"', "line 1, column 2: the text is not valid UTF-8" },
    { '"\192\128"', "line 1, column 2: the text is not valid UTF-8" },
    { "01", "line 1, column 2: nothing may follow the value" },
    { "+1", "line 1, column 1: a value is expected" },
    { "-", "line 1, column 2: the text ends too early" },
    { "-x", "line 1, column 2: a digit must follow '-'" },
    { ".5", "line 1, column 1: a value is expected" },
    { "1.x", "line 1, column 3: a digit must follow '.'" },
    { "1e+x", "line 1, column 4: a digit must follow the exponent" },
    { "0x10", "line 1, column 2: nothing may follow the value" },
    { "NaN", "line 1, column 1: a value is expected" },
    { "Infinity", "line 1, column 1: a value is expected" },
    { "1e999", "line 1, column 1: the number is out of range" },
    { "[1,\0]", "line 1, column 4: a value is expected" },
    { "/* x */ 1", "line 1, column 1: a value is expected" },
  }
  for _, case in ipairs(refused) do
    it("refuses " .. case[1]:gsub("%c", "?"), function()
      local value, err = json.decode(case[1])
      assert.is_nil(value)
      assert.same({ "INVALID", case[2] }, { err.code, err.message })
    end)
  end

  it("limits depth", function()
    assert.is_table(json.decode(("["):rep(64) .. ("]"):rep(64)))
    local value, err = json.decode(("["):rep(65) .. ("]"):rep(65))
    assert.is_nil(value)
    assert.equal("LIMIT", err.code)
    value, err = json.decode("[[1]]", { max_depth = 1 })
    assert.is_nil(value)
    assert.equal("line 1, column 2: nested too deeply", err.message)
  end)

  it("takes the last of equal keys, or refuses them when asked", function()
    assert.same({ a = 2 }, (json.decode('{"a":1,"a":2}')))
    local value, err = json.decode('{"b":{"a":null,\n"\\u0061":2}}', { unique = true })
    assert.is_nil(value)
    assert.equal("line 2, column 1: this member is there twice", err.message)
    assert.same({ { a = 1 }, { a = 1 } }, (json.decode('[{"a":1},{"a":1}]', { unique = true })))
  end)

  it("reads back every number it writes", function()
    math.randomseed(7)
    for _ = 1, 20000 do
      local number = (math.random() - 0.5) * 10 ^ math.random(-30, 30)
      assert(json.decode(json.encode(number)) == number, json.encode(number))
    end
  end)
end)
