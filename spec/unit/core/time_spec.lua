local time = require("macp.core.time")

describe("time", function()
  local both_ways = {
    { "1970-01-01T00:00:00.000Z", 0 }, { "2026-03-01T09:15:22.500Z", 1772356522500 },
    { "2000-02-29T23:59:59.999Z", 951868799999 }, { "1969-12-31T23:59:59.999Z", -1 },
    { "2024-12-31T00:00:00.001Z", 1735603200001 }, { "9999-12-31T23:59:59.999Z", 253402300799999 },
  }
  for _, case in ipairs(both_ways) do
    it("converts " .. case[1], function()
      assert.equal(case[1], time.iso(case[2]))
      assert.equal(case[2], time.parse_iso(case[1]))
    end)
  end

  local parsed = {
    { "2026-03-01", 1772323200000 }, { "2026-03-01T09:15:22Z", 1772356522000 },
    { "2026-03-01T09:15Z", 1772356500000 }, { "2026-03-01T11:15:22.5+02:00", 1772356522500 },
    { "2026-03-01 09:15:22.123456Z", 1772356522123 }, { "2026-03-01T09:15:22", 1772356522000 },
    { "2026-03-01T04:15:22-0500", 1772356522000 },
  }
  for _, case in ipairs(parsed) do
    it("reads " .. case[1], function() assert.equal(case[2], time.parse_iso(case[1])) end)
  end

  local refused = {
    "", "now", "2026-13-01", "2026-02-29", "2026-00-10", "2026-03-01T24:00:00Z", "2026-03-01T09:60Z", "2026-03-01X",
    "2026-03-01T09:15:22+25:00", "2026-03-01T09:15:61Z", "2026-3-1", "2026-03-01T09:15:22Zjunk", ("2"):rep(100),
  }
  for _, text in ipairs(refused) do
    it(string.format("refuses %q", text:sub(1, 30)), function() assert.is_nil(time.parse_iso(text)) end)
  end

  it("agrees with itself on every day of a century", function()
    for day = -20000, 20000, 7 do
      local ms = day * 86400000 + 12345678
      assert.equal(ms, time.parse_iso(time.iso(ms)))
    end
  end)
end)
