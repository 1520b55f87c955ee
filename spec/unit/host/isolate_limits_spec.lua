-- Isolates hold against hostile scripts: instructions, memory, time, strings of any length, patterns that never end.

local isolates = require("spec.support.isolates")

local LIMITS = isolates.LIMITS

describe("a hostile script", function()
  local iso

  before_each(function() iso = isolates.boot({ memory_bytes = 64 * 1024 * 1024 }) end)
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
