-- host.gzip against gzip's own program.

local crypto = require("host.crypto")
local gzip = require("host.gzip")

local gunzip = require("spec.support.gunzip")

describe("host.gzip", function()
  it("gives back what was put in", function()
    for _, text in ipairs({ "", "a", ("x"):rep(100000), crypto.random(50000), "nul\0and more\0" }) do
      for _, level in ipairs({ 1, 9 }) do assert.is_true(gunzip(assert(gzip(text, level))) == text) end
    end
  end)

  it("makes texts smaller, and the more the higher the level", function()
    local words = {}
    for i = 1, 20000 do words[i] = '{"seq":' .. i .. ',"type":"message.received"}' end
    local text = table.concat(words)
    local fast, small = #gzip(text), #gzip(text, 9)
    assert.is_true(small < fast and fast < #text / 4)
  end)

  it("refuses other levels and other values", function()
    assert.has_error(function() gzip("x", 0) end)
    assert.has_error(function() gzip("x", 10) end)
    assert.has_error(function() gzip({}) end)
  end)
end)
