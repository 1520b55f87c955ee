local modes = require("spec.support.modes")

-- What a script may try, and what it is told.
local ESCAPES = {
  { "os.time()", "'os' does not exist" }, { "io.open('x')", "'io' does not exist" }, { "print(1)", "macp.log" },
  { "local f = loadstring('return 1')", "does not exist" }, { "load('x')", "does not exist" },
  { "dofile('x')", "does not exist" }, { "pcall(error)", "nothing to catch" }, { "xpcall(error, error)",
    "nothing to catch" },
  { "getmetatable('')", "does not exist" }, { "setmetatable({}, {})", "does not exist" },
  { "rawset(s, 1, 2)", "does not exist" }, { "next(s)", "has an order" }, { "coroutine.wrap(print)", "does not exist" },
  { "debug.getinfo(1)", "does not exist" }, { "jit.on()", "does not exist" }, { "setfenv(1, {})", "does not exist" },
  { "getfenv(0)", "does not exist" }, { "newproxy(true)", "does not exist" }, { "native.compile('x', 'y', {})",
    "does not exist" },
  { "module('x')", "does not exist" }, { "package.loaded.x = 1", "does not exist" }, { "_G.x = 1", "does not exist" },
  { "collectgarbage()", "does not exist" }, { "local x = math.random()", "attempt to call" },
  { "local x = math.sin(1)", "attempt to call" }, { "local x = math.pow(2, 0.5)", "attempt to call" },
  { "local x = string.dump(function() end)", "attempt to call" }, { "x = 1", "undeclared global 'x'" },
  { "string.x = 1", "string is read-only" }, { "math.pi = 3", "math is read-only" }, { "table.insert = 1",
    "table is read-only" },
  { "macp.count = 1", "macp is read-only" }, { "c.t = 1", "c is read-only" }, { "c.rules = {}", "c is read-only" },
  { "c.rules.x = 1", "read-only" }, { "c.rules.commitment.authority = 'any_participant'", "read-only" },
  { "c.participants[1] = 'eve'", "read-only" }, { "c.participants[3] = 'eve'", "read-only" },
  { "table.insert(c.participants, 'eve')", "read-only" }, { "table.sort(c.participants, function() end)", "read-only" },
  { "table.remove(c.participants)", "read-only" }, { "local t = tostring({})", "print an address" },
  { "local t = tostring(print or macp.count)", "does not exist" }, { "local t = ('%s'):format({})", "" },
  { "local t = string.format('%s', {})", "cannot print a table" }, { "error({})", "error value is a table" },
  { "require 'os'", "cannot require 'os'" }, { "require 'macp.modes.live'", "cannot require" },
  { "require 'lib.../mode'", "cannot require" }, { "('x').y.z = 1", "" }, { "macp.array(5)", "" },
}

describe("the sandbox", function()
  for _, case in ipairs(ESCAPES) do
    it("stops " .. case[1], function()
      local rev = modes.build(modes.source({ messages = [[
        Put = { from = "participant", payload = "string key = 1;", apply = function(s, p, by, c) ]] .. case[1]
          .. [[ end },]] }))
      assert(rev:start("s", modes.start()))
      local verdict, r = rev:submit("s", "Put", "ann", "", 1)
      assert.is_nil(verdict)
      assert.truthy(r.error.text:find(case[2], 1, true), r.error.text)
      rev:close()
    end)
  end

  it("keeps changes of c away from the next message", function()
    local rev = modes.build(modes.source({ messages = [[
      Bad = { from = "participant", apply = function(s, p, by, c)
        c.participants[1] = "eve"
        c.rules.commitment.authority = "any_participant"
      end },
      Look = { from = "participant", apply = function(s, p, by, c) s.first, s.rule = c.participants[1],
        c.rules.commitment.authority end },]] }))
    assert(rev:start("s", modes.start()))
    rev:submit("s", "Bad", "ann", "", 1)
    rev:drop("s")
    assert(rev:start("s", modes.start()))
    assert(rev:submit("s", "Look", "ann", "", 1))
    assert.same({ "ann", "initiator_only" }, { modes.state(rev).first, modes.state(rev).rule })
    rev:close()
  end)

  it("iterates in key order and leaves the rest of the language alone", function()
    local rev = modes.build({ ["mode.lua"] = modes.source({
      head = "local macp = require 'macp' local lib = require 'lib.util'", messages = [[
      Put = { from = "participant", apply = function(s)
        local out = {}
        for k in pairs({ b = 1, a = 2, c = 3, [2] = "y", [1] = "x", [10] = "z" }) do out[#out + 1] = tostring(k) end
        s.order = table.concat(out, ",")
        s.text = ("abc"):upper():rep(2) .. string.format("%5.1f", 2.25) .. select("#", 1, 2) .. #"xy"
        s.math = math.floor(2.7) + math.max(1, 2) + math.abs(-3)
        s.sorted = { 3, 1, 2 }
        table.sort(s.sorted, function(a, b) return a > b end)
        s.lib = lib.double(4)
        s.int = macp.int(10 ^ 15)
      end },]] }), ["lib/util.lua"] = "return { double = function(n) return n * 2 end }" })
    assert(rev:start("s", modes.start()))
    assert(rev:submit("s", "Put", "ann", "", 1))
    local state = modes.state(rev)
    assert.equal("1,2,10,a,b,c", state.order)
    assert.equal("ABCABC  2.222", state.text:gsub("2%.[23]", "2.2"))
    assert.equal(7, state.math)
    assert.same({ 3, 2, 1 }, state.sorted)
    assert.equal(8, state.lib)
    assert.equal("1000000000000000", state.int)
    rev:close()
  end)

  it("gives every revision an environment of its own", function()
    local head = "local seen = { n = 0 } local function bump() seen.n = seen.n + 1 return seen.n end"
    local parts = { head = head, messages = [[ Put = { from = "participant", apply = function(s) s.n = bump() end },]] }
    local first, second = modes.build(modes.source(parts)), modes.build(modes.source(parts))
    for _ = 1, 3 do
      first:start("s", modes.start())
      first:submit("s", "Put", "ann", "", 1)
    end
    second:start("s", modes.start())
    second:submit("s", "Put", "ann", "", 1)
    assert.equal(3, modes.state(first).n)
    assert.equal(1, modes.state(second).n)
    first:close()
    second:close()
  end)
end)

describe("the kit", function()
  it("computes in key order", function()
    local rev = modes.build(modes.source({ messages = [[
      Put = { from = "participant", apply = function(s)
        local t = { b = 2, a = 1, c = 3 }
        local best, key = macp.max_by({ x = 5, a = 5, z = 4 }, function(v) return v end)
        s.out = {
          count = macp.count(t), odd = macp.count(t, function(v) return v % 2 == 1 end),
          any = macp.any(t, function(v, k) return k == "c" end), all = macp.all(t, function(v) return v > 1 end),
          sum = macp.sum(t), sum2 = macp.sum(t, function(v) return v * 2 end), best = best, key = key,
          low = macp.min_by(t, function(v) return v end), keys = macp.keys(t), values = macp.values(t),
          doubled = macp.map(t, function(v) return v * 2 end), big = macp.filter(t, function(v) return v > 1 end),
          list = macp.filter({ 1, 2, 3 }, function(v) return v ~= 2 end), has = macp.contains(t, 3),
            none = macp.empty({}),
          found = macp.find(t, function(v) return v > 1 end), trim = macp.trim("  x "), round = macp.round(2.345, 2),
          sha = macp.sha256("abc"):sub(1, 8), hex = macp.hex("\1\255"), b64 = macp.base64("hi"),
          json = macp.json_encode({ b = 1, a = { true } }), back = macp.json_decode('{"x":[1]}').x[1],
        }
      end },]] }))
    rev:start("s", modes.start())
    assert(rev:submit("s", "Put", "ann", "", 1))
    assert.same({ count = 3, odd = 2, any = true, all = false, sum = 6, sum2 = 12, best = 5, key = "a", low = 1,
      keys = { "a", "b", "c" }, values = { 1, 2, 3 }, doubled = { a = 2, b = 4, c = 6 }, big = { b = 2, c = 3 },
      list = { 1, 3 }, has = true, none = true, found = 2, trim = "x", round = 2.35, sha = "ba7816bf", hex = "01ff",
      b64 = "aGk=", json = '{"a":[true],"b":1}', back = 1 }, modes.state(rev).out)
    rev:close()
  end)
end)
