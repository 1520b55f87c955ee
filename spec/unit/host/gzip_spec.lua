-- host.gzip against gzip's own program.

local crypto = require("host.crypto")
local gzip = require("host.gzip")
local gzip_stream = require("host.gzip_stream")
local task = require("host.task")

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

describe("host.gzip_stream", function()
  -- What all writes of these pieces give. (yields)
  local function packed(pieces, level)
    local stream, out = assert(gzip_stream(level)), {}
    for i, piece in ipairs(pieces) do out[i] = assert(stream:write(piece, i == #pieces)) end
    return table.concat(out), out
  end

  it("gives back what was put in, in whatever pieces", function()
    local noise = crypto.random(300000)
    for _, pieces in ipairs({ { "" }, { "a" }, { "", "a", "" }, { ("x"):rep(3000000), "y", ("z"):rep(100000) },
      { noise, noise, "" } }) do
      for _, level in ipairs({ 1, 9 }) do
        assert.is_true(gunzip((packed(pieces, level))) == table.concat(pieces))
      end
    end
  end)

  it("finds in a piece what was in the one before", function()
    local noise = crypto.random(20000)
    local _, out = packed({ noise, noise, noise, "" })
    assert.is_true(#table.concat(out) < 22000)
  end)

  it("leaves the loop to others while it works", function()
    local turns, is_over = 0, false
    local other = task.spawn(function()
      while not is_over do
        turns = turns + 1
        task.sleep(0)
      end
    end)
    local stream = assert(gzip_stream(9))
    assert(stream:write(crypto.random(1048576):rep(4), true))
    is_over = true
    other:join()
    assert.is_true(turns > 10, turns)
  end)

  it("takes one write at a time, and none behind the last", function()
    local stream = assert(gzip_stream())
    local first = task.spawn(function() return stream:write(("x"):rep(16 * 1024 * 1024)) end)
    task.sleep(0)
    local ok, err = pcall(function() return stream:write("y") end)
    assert.is_false(ok)
    assert.matches("another write is under way", err)
    assert(first:join())
    assert(stream:write("", true))
    assert.matches("the stream is over", select(2, pcall(function() return stream:write("y") end)))
    assert.has_error(function() stream:write({}) end)
    assert.has_error(function() gzip_stream(0) end)
  end)

  it("may be dropped, also while it works", function()
    for _ = 1, 20 do
      local writing = task.spawn(function() return gzip_stream():write(("x"):rep(100000)) end)
      task.sleep(0)
      writing:cancel()
      collectgarbage()
      writing:join()
    end
    collectgarbage()
  end)
end)
