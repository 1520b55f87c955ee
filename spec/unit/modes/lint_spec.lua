local lint = require("macp.modes.lint")
local scanner = require("macp.modes.scanner")

local function findings(source)
  local out = {}
  for i, finding in ipairs(lint.check("m.lua", scanner.scan(source))) do
    out[i] = finding.line .. " " .. finding.rule
  end
  return out
end

describe("the purity lint", function()
  it("warns of names that the sandbox lacks", function()
    assert.same({ "2 purity.name", "3 purity.name" }, findings("local t = 1\nlocal now = os.time()\nprint(t, now)"))
  end)

  it("warns of assignments to globals, in every form", function()
    assert.same({ "1 purity.global" }, findings("x = 1"))
    assert.same({ "2 purity.global" }, findings("local a, s = 1, {}\ns.y, b = a, 2"))
    assert.same({ "1 purity.global" }, findings("function f() end"))
  end)

  it("warns of file locals that functions change", function()
    assert.same({ "2 purity.upvalue" },
      findings("local n = 0\nlocal function f() n = n + 1 return n end\nreturn { f = f }"))
  end)

  it("knows parameters, loops, blocks and table keys", function()
    assert.same({}, findings([[
      local function f(a, b)
        local c = a
        for i, v in ipairs(b) do c = c + i + v end
        for k = 1, 3 do c = c + k end
        repeat local d = c until d
        if a then local e = 1 return e else return { key = a, other = function(self, x) return self, x end } end
      end
      local t = { f = f }
      function t.g(p) return p end
      function t:h() return self end
      return t
    ]]))
  end)

  it("warns of computed exponents, lengths of maps and endless loops", function()
    assert.same({ "1 purity.power" }, findings("return function(a, b) return a ^ b end"))
    assert.same({}, findings("return function(a) return a ^ 2 end"))
    assert.same({ "1 purity.length" },
      findings("return function(s, p, by) s.bids[by] = 1 return #s.bids end"))
    assert.same({ "1 purity.loop" }, findings("return function() for i = 1, 1e17 do local _ = i end end"))
  end)

  it("survives broken source", function()
    local source = "local x = { a = function(b) for i = 1, 2 do if b then return #b.c[by] end end end, [1] = 2 }"
    for cut = 1, #source do findings(source:sub(1, cut)) end
  end)
end)
