local window = require("macp.plane.dashboard.window")

local NOW = 1767225600000 -- 2026-01-01T00:00:00Z
local HOUR = 3600000

describe("the window of a dashboard", function()
  for name, expected in pairs({
    ["15m"] = { HOUR / 4, "minute" }, ["1h"] = { HOUR, "minute" }, ["6h"] = { 6 * HOUR, "minute" },
    ["24h"] = { 24 * HOUR, "hour" }, ["7d"] = { 168 * HOUR, "day" }, ["30d"] = { 720 * HOUR, "day" },
  }) do
    it(name .. " reaches back that long and is counted per " .. expected[2], function()
      assert.same({ from_ms = NOW - expected[1], bucket = expected[2] }, window.of({ window = name }, "24h", NOW))
    end)
  end

  it("takes range only when window is absent", function()
    assert.equal(NOW - 168 * HOUR, window.of({ range = "7d" }, "24h", NOW).from_ms)
    assert.equal(NOW - HOUR, window.of({ range = "7d", window = "1h" }, "24h", NOW).from_ms)
  end)

  it("is the default one when none is named, all time when there is no default", function()
    assert.equal(NOW - 24 * HOUR, window.of({}, "24h", NOW).from_ms)
    assert.same({ bucket = "day" }, window.of({}, nil, NOW))
  end)

  it("follows from and to, in any zone, with buckets by their distance", function()
    local function of(from, to)
      local found = window.of({ from = from, to = to, window = "1h" }, "24h", NOW)
      return { found.from_ms, found.to_ms, found.bucket }
    end
    local function day(n) return NOW - n * 24 * HOUR end
    assert.same({ day(1), day(1) + 6 * HOUR, "minute" }, of("2025-12-31T02:00:00+02:00", "2025-12-31T06:00:00Z"))
    assert.same({ day(2), NOW, "hour" }, of("2025-12-30", "2026-01-01"))
    assert.same({ day(2), NOW + 1, "day" }, of("2025-12-30", "2026-01-01T00:00:00.001Z"))
    assert.same({ day(3), nil, "day" }, of("2025-12-29"))
  end)

  it("says what is wrong with a from that is not before to", function()
    for _, to in ipairs({ "2025-12-30", "2025-12-29" }) do
      local found, err = window.of({ from = "2025-12-30", to = to }, "24h", NOW)
      assert.is_nil(found)
      assert.same({ "VALIDATION_ERROR", { "from must be before to" } }, { err.code, err.message })
    end
  end)
end)
