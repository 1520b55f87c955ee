-- Remembered states of the past: what is found, and how much may be kept.

local past_states = require("macp.plane.past_states")

local function add(run, kind, seq, size) run:add(kind, { seq = seq }, size or 1000) end

local function seqs(list)
  local out = {}
  for i, item in ipairs(list) do out[i] = item.seq end
  return out
end

describe("remembered states", function()
  it("are found at or before a number, whatever the order in which they came", function()
    local run = past_states.new(1000000):of("r", "m")
    for _, seq in ipairs({ 900, 300, 600 }) do add(run, "host", seq) end
    assert.same({ 300, 600, 900 }, seqs(run.host))
    for _, case in ipairs({ { 299, nil }, { 300, 300 }, { 599, 300 }, { 600, 600 }, { 5000, 900 } }) do
      local found = run:nearest("host", case[1])
      assert.equal(case[2], found and found.seq)
    end
    assert.is_nil(run:nearest("mode", 900))
  end)

  it("are wanted in steps only, between others too", function()
    local run = past_states.new(1000000):of("r", "m")
    assert.is_true(run:wants("host", 1))
    add(run, "host", 1000)
    for _, case in ipairs({ { 904, true }, { 905, false }, { 1000, false }, { 1095, false }, { 1096, true } }) do
      assert.equal(case[2], run:wants("host", case[1]))
    end
    add(run, "host", 1150)
    assert.is_false(run:wants("host", 1100))
  end)

  it("of a mode are paid for by the numbers that were folded", function()
    local run = past_states.new(1000000):of("r", "m")
    assert.is_true(run:earn(1)) -- how large they are is not known yet
    run:spend(100000)
    assert.is_false(run:earn(200))
    assert.is_true(run:earn(100))
    run:spend(100000)
    assert.is_false(run:earn(1))
    assert.is_true(run:earn(1e9))
    run:spend(100000)
    assert.is_false(run:earn(1)) -- no more than one is saved for
  end)

  it("of other rules are forgotten", function()
    local states = past_states.new(1000000)
    add(states:of("r", "one"), "host", 300)
    assert.is_nil(states:of("r", "two"):nearest("host", 300))
    assert.equal(0, states.bytes)
  end)

  it("never take more bytes than they may: other runs go first, then every second step", function()
    local states = past_states.new(100000)
    local first = states:of("first", "m")
    for i = 1, 20 do add(first, "mode", i * 500, 4000) end
    local second = states:of("second", "m")
    for i = 1, 200 do
      add(second, i % 2 == 0 and "mode" or "host", i * 500, 4000)
      assert.is_true(states.bytes <= 100000)
    end
    assert.is_true(first.gone)
    assert.equal(states.bytes, second.bytes)
    assert.is_true(#second.mode > 2 and second.mode.step > 500)
    local sum = 0
    for _, kind in ipairs({ "host", "mode" }) do
      for i, item in ipairs(second[kind]) do
        sum = sum + item.size
        assert.is_true(i == 1 or item.seq > second[kind][i - 1].seq)
      end
    end
    assert.equal(sum, second.bytes)
  end)

  it("of a run that was forgotten while it was read are not kept", function()
    local states = past_states.new(100000)
    local run = states:of("r", "one")
    states:of("r", "two")
    add(run, "host", 300)
    assert.is_false(run:wants("host", 900))
    assert.equal(0, states.bytes)
  end)

  it("are none when none may be kept, and none that is an eighth of everything", function()
    local none = past_states.new(0):of("r", "m")
    assert.is_false(none:wants("host", 300))
    local states = past_states.new(8000)
    add(states:of("r", "m"), "host", 300, 1000)
    assert.equal(0, states.bytes)
  end)
end)
