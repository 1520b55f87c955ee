local modes = require("spec.support.modes")

-- A mode whose state is what a number in the payload says.
local HEAD = [[
local macp = require 'macp'
local MAKERS = {
  function() return {} end,
  function() return { list = macp.array {}, text = "x", yes = true, half = 0.5, deep = { a = { b = 1 } } } end,
  function(n)
    local map = {}
    for i = 1, n do map[("k"):rep(i % 7 + 1) .. i * 7919 % 10007] = { by = "ann", n = i, list = { i, "x" } } end
    return { items = map, after = "z" }
  end,
  function(n)
    local list, marked = {}, macp.array {}
    for i = 1, n do list[i] = { reason = "because of " .. i, votes = { ann = true, bob = i % 2 == 0 } } end
    for i = 1, n do marked[i] = i / 3 end
    return { deep = { { list = list, marked = marked, empty = {} } }, bytes = "\255\254" }
  end,
  function(n)
    local outer = {}
    for i = 1, 40 do
      local inner = {}
      for k = 1, n / 40 do inner["name" .. k] = "value" end
      outer["group" .. i] = inner
    end
    return outer
  end,
  function(n) -- megabytes in few values
    local list = {}
    for i = 1, n do list[i] = { text = ("x"):rep(i % 5 == 0 and 900000 or 30000 + i) } end
    return { list = list }
  end,
}]]
local MESSAGES = [[
Fill = { from = "participant", payload = "int64 maker = 1; int64 n = 2;",
  apply = function(s, p) for key, value in pairs(MAKERS[p.maker](p.n)) do s[key] = value end end },]]

local function in_steps(rev, key)
  assert.is_true(rev:encode_begin(key))
  local pieces, steps = {}, 0
  while true do
    local bytes, is_last = rev:encode_step(key)
    if bytes == nil then return nil, is_last end
    pieces[#pieces + 1], steps = bytes, steps + 1
    if is_last then return table.concat(pieces), steps end
  end
end

describe("encoding in steps", function()
  local rev

  before_each(function()
    rev = modes.build(modes.source({ head = HEAD, messages = MESSAGES, state = "{}" }),
      { limits = { message_instructions = 50000000 } })
    assert(rev:start("s", modes.start()))
  end)
  after_each(function() rev:close() end)

  local function fill(maker, n)
    assert(rev:submit("s", "Fill", "ann", modes.encode(rev, "Fill", { maker = maker, n = n }), 5))
  end

  for maker, n in ipairs({ 0, 0, 5000, 4000, 6000, 20 }) do
    it("gives the bytes of encode: state " .. maker, function()
      fill(maker, n)
      local bytes, steps = in_steps(rev, "s")
      assert.is_true(bytes == rev:encode("s"))
      if n > 0 then assert.is_true(steps > 5) end
    end)
  end

  it("gives bytes that restore", function()
    fill(3, 3000)
    local hash = rev:state_hash("s")
    local bytes = in_steps(rev, "s")
    rev:drop("s")
    assert(rev:restore("s", modes.start(), bytes))
    assert.equal(hash, rev:state_hash("s"))
  end)

  it("tells when nothing was begun, or something else was", function()
    fill(3, 3000)
    local _, err = rev:encode_step("s")
    assert.equal("NOT_FOUND", err.code)
    assert(rev:encode_begin("s"))
    rev:encode_stop("s")
    _, err = rev:encode_step("s")
    assert.equal("NOT_FOUND", err.code)
    assert(rev:start("t", modes.start()))
    assert(rev:encode_begin("s"))
    assert(rev:encode_begin("t"))
    _, err = rev:encode_step("s")
    assert.equal("NOT_FOUND", err.code)
    assert.is_string((rev:encode_step("t")))
  end)

  it("fails for a session that is not there", function()
    local ok, err = rev:encode_begin("nobody")
    assert.is_nil(ok)
    assert.truthy(err.message:find("not loaded", 1, true))
  end)
end)
