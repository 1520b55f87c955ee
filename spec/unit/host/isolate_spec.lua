-- Isolates: plain values cross, limits hold against hostile scripts, failures are located.

local isolate = require("host.isolate")
local json = require("host.json")

local LIMITS = { instructions = 1000000, growth_bytes = 16 * 1024 * 1024 }

local BOOT = [==[
local M = {}
local env = { error = error, string = string, tostring = tostring, ipairs = ipairs, table = table,
  unpack = unpack, select = select }
function M.echo(...) return ... end
function M.count(...) return select("#", ...) end
function M.run(text, ...)
  local chunk, message = native.compile(text, "modes/x/mode.lua", env)
  if not chunk then error(message, 0) end
  local first, second = chunk(...)
  return first, second
end
function M.swallow() while true do pcall(function() while true do end end) end end
function M.swallow_and_leave() return pcall(function() while true do end end) end
function M.native(name, ...) local first, second = native[name](...) return first, second end
function M.run_all(text) return native.compile(text, "modes/x/mode.lua", env)() end
local function join(t, remove)
  local out = {}
  for k, v in native.pairs(t) do out[#out + 1] = k .. "=" .. v .. " " if remove then t[remove] = nil end end
  return table.concat(out)
end
function M.join(t) return join(t) end
function M.join_and_remove(t, key) return join(t, key) end
function M.store(text)
  local bytes, message = native.cbor_encode(native.compile(text, "state", env)())
  return bytes, message
end
function M.codec(list, value)
  local codec = native.codec("test.M", list)
  local bytes = codec.encode(value)
  local _, failure = codec.decode("\18\1x")
  return native.hex(bytes), codec.decode(bytes), codec.decode(""), failure
end
function M.encode_tags(text)
  local codec = native.codec("test.M", { { name = "tags", number = 1, type = "string", ["repeated"] = true } })
  return (codec.encode({ tags = native.compile(text, "tags", env)() }))
end
function M.names()
  local out = {}
  for name in pairs(_G) do out[#out + 1] = name end
  table.sort(out)
  return table.concat(out, " ")
end
return M
]==]

local function boot(options)
  local iso = isolate.new(options or { name = "test" })
  assert(iso:boot("inside/test", BOOT))
  return iso
end

describe("an isolate", function()
  local iso

  before_each(function() iso = boot() end)
  after_each(function() iso:close() end)

  it("passes plain values both ways", function()
    local ok, a, b, c, d, e = iso:call("echo", nil, 1.5, "a\0b", true, nil, { 1, { x = "y" }, json.null })
    assert.is_true(ok)
    assert.same({ 1.5, "a\0b", true }, { a, b, c })
    assert.is_nil(d)
    assert.same({ 1, { x = "y" }, json.null }, e)
    assert.equal(3, select(2, iso:call("count", nil, nil, nil, nil)))
  end)

  it("keeps JSON marks", function()
    local _, value = iso:call("echo", nil, { json.array({}) })
    assert.equal("[[]]", json.encode(value))
    _, value = iso:call("echo", nil, { json.raw("[1]"), json.object() })
    assert.equal("[[1],{}]", json.encode(value))
  end)

  it("refuses arguments that are not plain data", function()
    assert.has_error(function() iso:call("echo", nil, print) end)
    local loop = {}
    loop.a = loop
    assert.has_error(function() iso:call("echo", nil, loop) end)
  end)

  it("reports a function among the results as the script's failure", function()
    local ok, err = iso:call("run", nil, "return function() end")
    assert.is_nil(ok)
    assert.equal("SCRIPT", err.code)
  end)

  it("calls entries by number", function()
    local index = iso:entry("echo")
    assert.is_number(index)
    assert.is_nil(iso:entry("nothing"))
    local ok, a, b = iso:call_fast(index, 1000, 1000000, "x", 2)
    assert.same({ true, "x", 2 }, { ok, a, b })
  end)

  it("has no way out", function()
    local _, names = iso:call("names")
    assert.equal("_G assert bit error getmetatable ipairs math native next pairs pcall rawequal rawget rawset "
      .. "select setmetatable string table tonumber tostring type unpack", names)
    local ok, err = iso:call("run", nil, [[return ("").dump or ("x").gfind]])
    assert.is_true(ok)
    assert.is_nil(err)
  end)

  it("refuses bytecode", function()
    local ok, err = iso:call("run", nil, string.dump(function() return 1 end))
    assert.is_nil(ok)
    assert.matches("wrong mode", err.message)
  end)

  it("refuses a boot chunk that returns no functions", function()
    local ok, err = iso:boot("inside/bad", "return { a = 1 }")
    assert.is_nil(ok)
    assert.equal("inside/bad", err.file)
    ok, err = iso:boot("inside/bad", "return 1 +")
    assert.is_nil(ok)
    assert.same({ "SCRIPT", "inside/bad", 1 }, { err.code, err.file, err.line })
  end)

  it("is gone after close", function()
    local other = boot()
    other:close()
    other:close()
    assert.has_error(function() other:call("echo") end, "the isolate is closed")
  end)
end)

describe("a failing script", function()
  local iso

  setup(function() iso = boot() end)
  teardown(function() iso:close() end)

  local cases = {
    { "syntax error", "\nreturn 1 +", 2, "unexpected symbol" },
    { "runtime error", "local x\n\nreturn x.y", 3, "attempt to index local 'x'" },
    { "error call", "\n\nerror('no')", 3, "^no$" },
    { "error of a chosen level", "local function f() error('no', 2) end\nf()\n", 2, "^no$" },
    { "error without position", "\nerror('plain', 0)", 2, "^plain$" },
    { "table as error", "\nerror({})", 2, "error value is a table" },
    { "bad argument to a library function", "\nlocal a = ('x'):rep({}) return a", 2, "bad argument #1 to 'rep'" },
  }
  for _, case in ipairs(cases) do
    it("is located: " .. case[1], function()
      local ok, err = iso:call("run", LIMITS, case[2])
      assert.is_nil(ok)
      assert.same({ "SCRIPT", "modes/x/mode.lua", case[3] }, { err.code, err.file, err.line })
      assert.matches(case[4], err.message)
    end)
  end

  it("leaves the isolate usable", function()
    assert.is_nil((iso:call("run", LIMITS, "error('x')")))
    assert.same({ true, 7 }, { iso:call("echo", LIMITS, 7) })
  end)
end)

describe("a hostile script", function()
  local iso

  before_each(function() iso = boot({ memory_bytes = 64 * 1024 * 1024 }) end)
  after_each(function() iso:close() end)

  local hostile = {
    { "endless loop", "while true do end", "instruction limit" },
    { "deep recursion", "local function f(n) return 1 + f(n + 1) end return f(1)", "call depth" },
    { "table bomb", "local t = {} while true do t[#t + 1] = { t } end", "limit exceeded" },
    { "string doubling", "local s = 'x' while true do s = s .. s end", "memory limit" },
    { "backtracking pattern", "return string.find(('a'):rep(60), ('a*'):rep(9) .. 'b')", "instruction limit" },
    { "pattern in gsub", "return string.gsub(('a'):rep(60), ('a-'):rep(20) .. 'b', '')", "instruction limit" },
    { "insertion at the front", "local t = {} for i = 1, 1e6 do table.insert(t, 1, i) end", "instruction limit" },
    { "sorting again and again", "local t = {} for i = 1, 1e4 do t[i] = i end while true do table.sort(t) end",
      "instruction limit" },
    { "upper without end", "local s = ('x'):rep(1e6) while true do s:upper() end", "instruction limit" },
    { "unpack without end", "local t = {} while true do local n = select('#', unpack(t, 1, 7000)) end",
      "instruction limit" },
    { "byte without end", "local s = ('x'):rep(7000) while true do local n = select('#', s:byte(1, -1)) end",
      "instruction limit" },
    { "concat without end", "local t = {} for i = 1, 1e4 do t[i] = 'abc' end while true do table.concat(t) end",
      "instruction limit" },
  }
  for _, case in ipairs(hostile) do
    it("is stopped: " .. case[1], function()
      local ok, err = iso:call("run", LIMITS, case[2])
      assert.is_nil(ok)
      assert.equal("LIMIT", err.code)
      assert.matches(case[3], err.message)
      assert.is_true(iso:last_instructions() < 2000000)
      assert.same({ true, "still here" }, { iso:call("echo", LIMITS, "still here") })
    end)
  end

  it("is stopped although trusted code catches the error", function()
    for _, entry in ipairs({ "swallow", "swallow_and_leave" }) do
      local ok, err = iso:call(entry, LIMITS)
      assert.is_nil(ok)
      assert.equal("LIMIT", err.code)
    end
  end)

  it("is stopped by the clock when it has no instruction limit", function()
    local ok, err = iso:call("run", { wall_ms = 20 }, "while true do end")
    assert.is_nil(ok)
    assert.equal("time limit exceeded (20 ms)", err.message)
  end)

  it("may be called by number without limits", function()
    assert.same({ true, 1 }, { iso:call_fast(iso:entry("echo"), math.huge, nil, 1) })
    assert.same({ true, 1 }, { iso:call_fast(iso:entry("echo"), 0 / 0, -1, 1) })
  end)

  it("is stopped at the limit of the state, with its line", function()
    local ok, err = iso:call("run", nil, "local t = {}\nwhile true do\nt[#t + 1] = { 1 }\nend")
    assert.is_nil(ok)
    assert.same({ "LIMIT", 3 }, { err.code, err.line })
    assert.is_true(iso:used() < 1024 * 1024)
  end)

  it("cannot make long strings in one call", function()
    for _, text in ipairs({ "local s = ('x'):rep(1e9) return s", "local s = ('x'):rep(2^60, 'y') return s",
      "local t = {} for i = 1, 100 do t[i] = ('x'):rep(1e5) end local s = table.concat(t) return s",
      "local s = ('x'):rep(1e5):gsub('x', 'y') return s" }) do
      local ok, err = iso:call("run", LIMITS, text)
      assert.is_nil(ok)
      assert.equal("SCRIPT", err.code)
      assert.equal(1, err.line)
    end
  end)

  it("cannot blow up a shared string at the border", function()
    local many = "local s, t = ('x'):rep(1e6), {} for i = 1, 10000 do t[i] = s end return t"
    local ok, err = iso:call("run", LIMITS, many)
    assert.is_nil(ok)
    assert.matches("more than 64 MiB of strings", err.message)
    local stored, bytes, message = iso:call("store", LIMITS, many)
    assert.is_true(stored)
    assert.is_nil(bytes)
    assert.matches("^state%[6%d%]: the encoding is too long$", message)
    ok, err = iso:call("encode_tags", LIMITS, many)
    assert.is_nil(ok)
    assert.matches("instruction limit", err.message)
    local encoded, nothing = iso:call("encode_tags", nil, many)
    assert.same({ true }, { encoded, nothing })
  end)

  it("may make garbage: only live memory counts as growth", function()
    local ok, n = iso:call("run", { growth_bytes = 4 * 1024 * 1024 },
      "local n = 0 for i = 1, 500000 do local t = { i } n = n + #t end return n")
    assert.same({ true, 500000 }, { ok, n })
  end)

  it("sees neither addresses nor metamethods through format", function()
    for _, text in ipairs({ "local s = ('%s'):format({}) return s", "local s = ('%p'):format('x') return s" }) do
      assert.is_nil((iso:call("run", LIMITS, text)))
    end
    assert.same({ true, "a 1 100% nil" }, { iso:call("run", LIMITS,
      "return ('%s %d %d%% %s'):format('a', 1, 100, nil)") })
  end)

  it("cannot change the methods of strings", function()
    local ok, value = iso:call("run", LIMITS, "string.upper = nil local s = ('x'):upper() return s")
    assert.same({ true, "X" }, { ok, value })
  end)

  it("is measured exactly with a step of one", function()
    iso:set_step(1)
    iso:call("run", LIMITS, "return 1")
    local small = iso:last_instructions()
    iso:call("run", LIMITS, "local n = 0 for i = 1, 100 do n = n + i end return n")
    assert.is_true(iso:last_instructions() >= small + 200)
    assert.is_true(iso:last_instructions() < small + 300)
  end)
end)

describe("native functions", function()
  local iso

  setup(function() iso = boot() end)
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

describe("string functions inside", function()
  local iso

  setup(function() iso = boot() end)
  teardown(function() iso:close() end)

  -- Each expression must give the same as in the host's own library.
  local expressions = {
    [[("hello world"):find("o w")]],
    [[("hello"):find("l+")]],
    [[("hello"):find("xyz")]],
    [[("a.b"):find(".", 1, true)]],
    [[("a.b"):find("%.")]],
    [[("key = value"):match("^(%w+)%s*=%s*(%w+)$")]],
    [[("  trim "):match("^%s*(.-)%s*$")]],
    [[("abc"):match("()b()")]],
    [[("f(a(b)c)d"):match("%b()")]],
    [[("THE (quick) fox"):find("%f[%a]%a+%f[%A]")]],
    [[("hello hello"):match("(h%a+) %1")]],
    [=[("x]y"):match("[]]")]=],
    [[("a-z"):match("[a%-]+")]],
    [[("b"):match("[^a-c]")]],
    [[("abc"):gsub("%w", "%0%0")]],
    [[("abc"):gsub("", "-")]],
    [[("hello"):gsub("l", { l = "L" })]],
    [[("hello"):gsub("(h)(e)", "%2%1")]],
    [[("abc"):gsub("b", function(c) return c:upper() end)]],
    [[("abc def"):gsub("%w+", "%%", 1)]],
    [[("aaa"):gsub("^a", "b")]],
    [[("abc"):find("b", -2)]],
    [[("abc"):find("", 10)]],
    [[("abc"):find("", 4)]],
    [[("a\0b"):find("%z")]],
    [[("0x1F"):match("^0x(%x+)$")]],
    [[("ab"):rep(3, ",")]],
    [[("ab"):rep(-1)]],
    [[("a,b,,c"):gsub(",", ";", 2)]],
    [[("caf\195\169"):match("[\128-\255]+")]],
    [[("aXb"):gsub("%u", "%%%0")]],
    [[("abc"):match("a?b?c?d?$")]],
    [[("abc"):byte()]],
    [[("abc"):byte(-1)]],
    [[("abc"):byte(2, 10)]],
    [[("abc"):byte(-10, 2)]],
    [[("abc"):byte(4)]],
    [[("abc"):byte(0, 1)]],
    [[("abc"):byte(3, 2)]],
    [[("\255"):byte(1, -1)]],
    [[("aaab"):match("a-b")]],
    [=[("[[x]]"):match("%[%[(.-)%]%]")]=],
    [[("%d"):gsub("%%d", "5")]],
  }
  for _, expression in ipairs(expressions) do
    it("agree with the library: " .. expression, function()
      local expected = { loadstring("return " .. expression)() }
      local got = { iso:call("run_all", LIMITS, "return " .. expression) }
      assert.is_true(table.remove(got, 1))
      assert.same(expected, got)
    end)
  end

  it("iterate with gmatch", function()
    local expected = {}
    for key, value in ("a=1, b=2, c="):gmatch("(%w+)=(%w*)") do expected[#expected + 1] = key .. ":" .. value end
    local _, got = iso:call("run", LIMITS, [[local out = {}
      for key, value in ("a=1, b=2, c="):gmatch("(%w+)=(%w*)") do out[#out + 1] = key .. ":" .. value end return out]])
    assert.same(expected, got)
  end)

  local malformed = { "%", "[a", "[%", "(a", "a)", "%b", "%bx", "%f", "%1", "(a)%2", "[]" }
  for _, pattern in ipairs(malformed) do
    it("refuse the pattern " .. pattern, function()
      local ok, err = iso:call("run", LIMITS, "local p = ... local a = ('aaa'):match(p) return a", pattern)
      assert.is_nil(ok)
      assert.equal("SCRIPT", err.code)
    end)
  end

  it("limit subject and pattern", function()
    local ok, err = iso:call("run", LIMITS, "local a = ('x'):rep(70000):match('x+') return a")
    assert.is_nil(ok)
    assert.matches("subject of a pattern is too long", err.message)
    ok, err = iso:call("run", LIMITS, "local a = ('x'):match(('x?'):rep(200)) return a")
    assert.is_nil(ok)
    assert.matches("pattern is too long", err.message)
    ok, err = iso:call("run", LIMITS, "local a = ('x'):rep(120):match(('(x)'):rep(40)) return a")
    assert.is_nil(ok)
    assert.matches("too many captures", err.message)
  end)
end)
