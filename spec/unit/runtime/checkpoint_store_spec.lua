local checkpoint_store = require("macp.runtime.checkpoint_store")
local fakes = require("spec.support.runtime_fakes")
local layout = require("macp.runtime.layout")
local records = require("macp.runtime.records")

local ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
local FIRST, SECOND = layout.checkpoint(ID, 1), layout.checkpoint(ID, 2)
local PART = 200000 -- some make a portion

local function always() return true end

-- A checkpoint of so many parts that covers a history up to `index`.
local function checkpoint(index, parts)
  local list = { records.checkpoint({ received_at_ms = 1, mode_state_hash = "hash " .. index,
    coverage = { started_at_ms = 1, index = index, ordinals = index, parts = parts + 1 } }) }
  for i = 1, parts do
    list[i + 1] = records.checkpoint({ received_at_ms = 1, mode_state = string.char(96 + i):rep(PART) .. index })
  end
  return list
end

local function state(index, parts)
  local text = {}
  for i = 1, parts do text[i] = string.char(96 + i):rep(PART) .. index end
  return table.concat(text)
end

describe("stored checkpoints", function()
  local journal

  before_each(function()
    journal = fakes.journal()
    journal.logs[ID] = {}
    for i = 1, 100 do journal.logs[ID][i] = "envelope " .. i end
  end)

  local function counts() return { journal:count(FIRST), (journal:count(SECOND)) } end

  local function covers()
    local stored = checkpoint_store.read(journal, ID)
    return stored and stored.coverage.index
  end

  it("replace each other, and large ones take turns between two keys", function()
    for _, case in ipairs({ { 10, 1, { 2, 0 } }, { 20, 10, { 0, 11 } }, { 30, 12, { 13, 0 } }, { 40, 9, { 0, 10 } },
      { 50, 2, { 3, 0 } } }) do
      local index, parts = case[1], case[2]
      assert.is_true(checkpoint_store.write(journal, ID, checkpoint(index, parts), always))
      journal:flush()
      assert.same(case[3], counts())
      local stored = checkpoint_store.read(journal, ID)
      assert.same({ index, "hash " .. index }, { stored.coverage.index, stored.hash })
      assert.is_true(stored.state == state(index, parts))
    end
  end)

  it("are handed to the journal in portions: what waits for the disk is bounded", function()
    local most, wait, asked = 0, journal.wait, 0
    journal.wait = function(self, lsn)
      local bytes = 0
      for _, entry in ipairs(self.pending) do bytes = bytes + #(entry.bytes or "") end
      most = math.max(most, bytes)
      return wait(self, lsn)
    end
    checkpoint_store.write(journal, ID, checkpoint(10, 60), function()
      asked = asked + 1
      return true
    end)
    assert.is_true(most > PART and most < 512 * 1024 + 2 * PART, most .. " bytes at a time")
    assert.is_true(asked >= 60 * PART / (512 * 1024 + PART))
  end)

  it("count from their last record on: until then the one before does, whatever becomes of the new one", function()
    checkpoint_store.write(journal, ID, checkpoint(10, 10), always)
    local seen = {}
    checkpoint_store.write(journal, ID, checkpoint(20, 10), function()
      journal:flush()
      seen[#seen + 1] = covers()
      return true
    end)
    assert.is_true(#seen >= 4)
    for i, index in ipairs(seen) do assert.equal(i < #seen and 10 or 20, index) end
    -- The disk fails on the way: half of it stands in the other place.
    local wait = journal.wait
    journal.wait = function(self, lsn)
      journal.wait = function() return nil, { code = "IO", message = "the disk failed" } end
      return wait(self, lsn)
    end
    local ok, err = checkpoint_store.write(journal, ID, checkpoint(30, 10), always)
    journal.wait = nil
    assert.same({ nil, "IO" }, { ok, err.code })
    journal:flush()
    assert.equal(20, covers())
    -- The next one takes that place.
    assert.is_true(checkpoint_store.write(journal, ID, checkpoint(40, 3), always))
    journal:flush()
    assert.equal(40, covers())
  end)

  it("are gone when their session ended while they were written", function()
    checkpoint_store.write(journal, ID, checkpoint(10, 10), always)
    local asked = 0
    local ok, err = checkpoint_store.write(journal, ID, checkpoint(20, 10), function()
      asked = asked + 1
      return asked < 2
    end)
    journal:flush()
    assert.same({ false, nil }, { ok, err })
    assert.same({ 0, 0 }, counts())
    assert.is_nil(checkpoint_store.read(journal, ID))
  end)

  it("are not written when the journal refuses them", function()
    journal.refuse = "full"
    local ok, err = checkpoint_store.write(journal, ID, checkpoint(10, 10), always)
    assert.same({ nil, "full" }, { ok, err.message })
    journal.refuse = nil
    assert.is_nil(checkpoint_store.read(journal, ID))
  end)

  it("are removed from both places, and nothing is written for what is not there", function()
    checkpoint_store.remove(journal, ID)
    assert.equal(0, journal.lsn)
    checkpoint_store.write(journal, ID, checkpoint(10, 10), always)
    checkpoint_store.remove(journal, ID)
    journal:flush()
    assert.same({ 0, 0 }, counts())
  end)
end)

describe("the keys of checkpoints", function()
  it("are two for every session, apart from all others", function()
    assert.not_equal(FIRST, SECOND)
    assert.is_true(layout.is_checkpoint(FIRST) and layout.is_checkpoint(SECOND))
    assert.is_false(layout.is_session(FIRST) or layout.is_session(SECOND))
    for place = 1, layout.CHECKPOINT_PLACES do assert.is_true(#layout.checkpoint(("a"):rep(255), place) <= 255) end
    assert.not_equal(layout.checkpoint(("a"):rep(255)), layout.checkpoint(("a"):rep(254) .. "b"))
  end)
end)
