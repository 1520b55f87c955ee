-- The string functions of an isolate, which count what they do: the results are those of the library.

local isolates = require("spec.support.isolates")

local LIMITS = isolates.LIMITS

describe("string functions inside", function()
  local iso

  setup(function() iso = isolates.boot() end)
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
