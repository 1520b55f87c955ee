local retry = require("macp.plane.webhooks.retry")

describe("the retry schedule", function()
  it("has six waits, each a fifth longer or shorter at most", function()
    local expected = { 1000, 5000, 30000, 120000, 600000, 3600000 }
    for n, base in ipairs(expected) do
      assert.equal(base * 0.8, retry.delay_ms(n, nil, 0))
      assert.equal(base, retry.delay_ms(n, nil, 0.5))
      assert.equal(base * 1.2, retry.delay_ms(n, nil, 1))
    end
    assert.is_nil(retry.delay_ms(7, 5000, 0.5))
    assert.equal(7, retry.ATTEMPTS)
  end)

  it("is never faster than the receiver asks for, and follows it for a day at most", function()
    assert.equal(60000, retry.delay_ms(1, 60000, 0.5))
    assert.equal(5000, retry.delay_ms(2, 60, 0.5))
    assert.equal(86400000, retry.delay_ms(1, 1e12, 0.5))
  end)
end)

describe("Retry-After", function()
  local NOW = 1775116800000 -- 2026-04-02T08:00:00Z

  it("is a number of seconds or a date", function()
    assert.equal(120000, retry.asked_ms("120", NOW))
    assert.equal(0, retry.asked_ms(" 0 ", NOW))
    assert.equal(90000, retry.asked_ms("Thu, 02 Apr 2026 08:01:30 GMT", NOW))
    assert.equal(0, retry.asked_ms("Thu, 02 Apr 2026 07:00:00 GMT", NOW))
    assert.equal(86400000, retry.asked_ms("99999999999999999999", NOW))
  end)

  it("is ignored when it is neither", function()
    for _, value in ipairs({ "soon", "-1", "1.5", "", "Thu, 99 Apr 2026 08:00:00 GMT", "Thu, 02 Xyz 2026 08:00:00 GMT",
      "2026-04-02T08:00:00Z" }) do
      assert.is_nil(retry.asked_ms(value, NOW), value)
    end
    assert.is_nil(retry.asked_ms(nil, NOW))
  end)
end)
