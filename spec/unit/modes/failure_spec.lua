local modes = require("spec.support.modes")

local rev

local function open(parts, opts)
  rev = modes.build(modes.source(parts), opts)
  assert(rev:start("s", modes.start()))
end

local function put(payload)
  return rev:submit("s", "Put", "ann", modes.encode(rev, "Put", payload or {}), 1)
end

local function message(body)
  return { messages = [[
    Put = { from = "participant", payload = "string key = 1;",
      apply = function(s, p, by, c) ]] .. body .. [[ end },]] }
end

describe("a failing script", function()
  after_each(function()
    if rev then rev:close() end
    rev = nil
  end)

  it("in a predicate refuses the message, with file and line, and leaves the state alone", function()
    open({ messages = [[
      Put = { from = "participant", payload = "string key = 1;",
        needs = { { "boom", function(s, p) return s.nothing.here end } } },]] })
    local before = rev:state_hash("s")
    local verdict, r = put()
    assert.is_nil(verdict)
    assert.equal("INTERNAL_ERROR", r.code)
    assert.is_true(r.author_error)
    assert.is_false(r.rebuild)
    assert.equal("messages.Put.needs[1]", r.rule)
    assert.equal("spec/mode.lua", r.file)
    assert.equal(7, r.line)
    assert.truthy(r.error.text:find("nothing", 1, true))
    assert.equal(before, rev:state_hash("s"))
    assert.equal(1, rev.faulty.count)
  end)

  it("in apply asks for a rebuild and refuses messages until then", function()
    open(message("s.half = true; error('no')"))
    local bytes = rev:encode("s")
    local _, r = put()
    assert.is_true(r.rebuild)
    assert.equal("messages.Put.apply", r.rule)
    _, r = put()
    assert.equal("kernel.state", r.rule)
    rev:drop("s")
    assert.is_true((rev:restore("s", modes.start(), bytes)))
    assert.is_nil(modes.state(rev).half)
    assert.equal(bytes, rev:encode("s"))
  end)

  it("in due after apply is a failed apply", function()
    open({ messages = [[ Put = { from = "participant", payload = "string key = 1;", apply = function(s,
      p) s.key = p.key end },
      Tick = { from = "runtime" },]], rest = [[timers = { t = { due = function(s) if s.key then return "x" end end,
        emit = function() end } },]] })
    local _, r = put({ key = "k" })
    assert.is_true(r.rebuild)
    assert.equal("timers.t.due", r.rule)
  end)

  it("in evaluate is a denial without details", function()
    open({ rest = "policy = { evaluate = function(s, d) return d.nothing.x end }," })
    local _, r = rev:submit("s", "Commitment", "ann", modes.commitment(rev), 1)
    assert.equal("POLICY_DENIED", r.code)
    assert.same({ "evaluation failed" }, r.details.reasons)
    assert.is_nil(r.author_error)
    assert.truthy(r.error.text:find("nothing", 1, true))
  end)

  for name, case in pairs({
    ["an endless loop"] = { "while true do end", "instruction limit" },
    ["runaway memory"] = { "local t = {} for i = 1, 1e9 do t[i] = { i } end", "memory limit" },
    ["deep recursion"] = { "local function f(n) return 1 + f(n + 1) end f(1)", "depth limit" },
    ["a huge string"] = { "s.x = ('x'):rep(1e8)", "string limit" },
    ["a costly pattern"] = { "local x = ('a'):rep(30000) s.y = x:find(('a*'):rep(40) .. 'b')", "limit" },
  }) do
    it("with " .. name .. " is stopped and disturbs nobody else", function()
      open(message(case[1]))
      local other = modes.build(modes.source())
      assert(other:start("o", modes.start()))
      assert(rev:start("second", modes.start()))
      local verdict, r = put()
      assert.is_nil(verdict)
      assert.truthy(r.error.text:find(case[2], 1, true), r.error.text)
      assert.equal("spec/mode.lua", r.file)
      assert.is_string(rev:state_hash("second"))
      assert.equal("accepted", (other:submit("o", "Put", "ann", modes.encode(other, "Put", { key = "k" }), 1)))
      other:close()
    end)
  end

  it("can do more during replay than live", function()
    local work = "for i = 1, 50000 do s.i = i end"
    open(message(work), { limits = { message_instructions = 100000 } })
    local verdict = put()
    assert.is_nil(verdict)
    rev:drop("s")
    assert(rev:start("s", modes.start()))
    assert.is_true((rev:apply("s", "Put", "ann", "", 1, 0)))
  end)

  it("with a state that cannot be stored is told with the path", function()
    for body, text in pairs({
      ["s.f = function() end"] = "state.f", ["s.a = {} s.b = { s.a }"] = "the same table is stored twice",
      ["s.n = 0 / 0"] = "state.n", ["s.m = { 1, x = 2 }"] = "state.m",
        ["s.h = { 1, 2, nil, 4 } s.h[9] = 1"] = "state.h",
      ["s.c = {} s.c.c = s.c"] = "state.c", ["s.p = c.participants"] = "state.p",
    }) do
      open(message(body))
      put()
      local bytes, err = rev:encode("s")
      assert.is_nil(bytes)
      assert.truthy(err.message:find(text, 1, true), err.message)
      rev:close()
    end
    rev = nil
  end)
end)

describe("a message that is refused after all", function()
  before_each(function()
    rev = modes.build(modes.source({
      messages = [[
        Put = { from = "participant", payload = "int64 n = 1;", apply = function(s, p, by, c) s.seq = c.seq end },
        Nod = { from = "participant" },]],
      rest = [[result = function(s) return s.seq.none end,
        policy = { evaluate = function(s, d) if s.seq == 3 then d.deny({}) end end },]] }))
    assert(rev:start("s", modes.start()))
  end)

  after_each(function() rev:close() end)

  it("is not counted: the next one takes its number", function()
    local _, rejection = rev:submit("s", "Commitment", "ann", modes.commitment(rev), 0)
    assert.same({ "INTERNAL_ERROR", "the mode failed in result" }, { rejection.code, rejection.message })
    assert.is_false(rejection.rebuild)
    assert.equal("accepted", (rev:submit("s", "Put", "ann", "", 0)))
    assert.equal(2, modes.state(rev).seq)
  end)

  it("names no address of a table", function()
    assert(rev:submit("s", "Nod", "ann", "", 0))
    assert(rev:submit("s", "Put", "ann", "", 0))
    local _, rejection = rev:submit("s", "Commitment", "ann", modes.commitment(rev), 0)
    assert.same({ "POLICY_DENIED", "evaluation failed" }, { rejection.code, rejection.message })
    assert.equal("a reason must be a string, not a table", rejection.error.text)
    rev:close()
    rev = modes.build(modes.source({ messages = [[Put = { from = "participant",
      needs = { { "never", function() return false, {} end } } },]] }))
    assert(rev:start("s", modes.start()))
    _, rejection = rev:submit("s", "Put", "ann", "", 0)
    assert.same({ "INTERNAL_ERROR", "the detail of a refusal must be a string, not a table" },
      { rejection.code, rejection.error.text })
  end)
end)
