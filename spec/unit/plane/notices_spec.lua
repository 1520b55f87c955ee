local notices = require("macp.plane.notices")

local function entry(tenant, id, seqs)
  return { run = { tenant = tenant, id = id }, seqs = seqs, n = #seqs }
end

local function read(texts)
  local found = {}
  for _, text in ipairs(texts) do
    notices.each(text, function(run_id, seq) found[run_id] = seq end)
  end
  return found
end

describe("notices", function()
  it("name the last number of every run that has new events", function()
    local texts = notices.of({ entry("default", "0a-1", { 3, 5 }), entry("default", "0a-2", {}),
      entry("default", "0a-3", { 12345678901234 }) })
    assert.same({ "default/0a-1:5 0a-3:12345678901234" }, texts)
    assert.same({ ["0a-1"] = 5, ["0a-3"] = 12345678901234 }, read(texts))
    assert.same({}, notices.of({ entry("default", "0a-2", {}) }))
  end)

  it("are one text per tenant, none longer than the server takes", function()
    local entries, expected = {}, {}
    for i = 1, 512 do
      local id = ("%08x-0000-7000-8000-%012x"):format(i, i)
      entries[i] = entry(i % 2 == 0 and "even" or "odd", id, { i * 1000000 })
      expected[id] = i * 1000000
    end
    local texts = notices.of(entries)
    assert.is_true(#texts >= 4 and #texts <= 6)
    for _, text in ipairs(texts) do
      assert.is_true(#text <= notices.MAX_BYTES)
      local even = text:find("^even/") ~= nil
      notices.each(text, function(_, seq) assert.equal(even, seq / 1000000 % 2 == 0) end)
    end
    assert.same(expected, read(texts))
  end)

  it("that are none are nothing", function()
    for _, text in ipairs({ "", "hello there", "/", "x/", "default/zz:1", "default/0a:x" }) do
      assert.same({}, read({ text }))
    end
  end)
end)
