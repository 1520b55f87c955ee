-- Isolates: plain values cross, failures are located.

local json = require("host.json")

local isolates = require("spec.support.isolates")

local LIMITS = isolates.LIMITS

describe("an isolate", function()
  local iso

  before_each(function() iso = isolates.boot() end)
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
    local other = isolates.boot()
    other:close()
    other:close()
    assert.has_error(function() other:call("echo") end, "the isolate is closed")
  end)
end)

describe("a failing script", function()
  local iso

  setup(function() iso = isolates.boot() end)
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
