local backoff = require("macp.core.backoff")

describe("backoff", function()
  it("doubles up to the cap and starts over after a reset", function()
    local delays = backoff.new({ base_ms = 100, max_ms = 500, jitter = 0 })
    assert.same({ 100, 200, 400, 500, 500 },
      { delays:next(), delays:next(), delays:next(), delays:next(), delays:next() })
    delays:reset()
    assert.equal(100, delays:next())
  end)

  it("adds jitter, so that nobody is earlier than the delay", function()
    local share = 0
    local delays = backoff.new({ base_ms = 100, max_ms = 100, jitter = 0.5, random = function() return share end })
    assert.equal(100, delays:next())
    share = 1
    assert.equal(150, delays:next())
  end)

  it("refuses nonsense", function()
    assert.has_error(function() backoff.new({ base_ms = 0, max_ms = 1 }) end)
    assert.has_error(function() backoff.new({ base_ms = 2, max_ms = 1 }) end)
  end)
end)
