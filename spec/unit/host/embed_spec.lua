local crypto = require("host.crypto")
local embed = require("host.embed")
local sys = require("host.sys")

describe("files inside the program", function()
  it("are compiled modules, with their names and lines", function()
    local code = embed.read("lua/macp/core/ids.lua")
    assert.equal("\27LJ", code:sub(1, 3))
    local info = debug.getinfo(assert(loadstring(code)), "SL")
    assert.equal("@lua/macp/core/ids.lua", info.source)
    assert.is_not_nil(next(info.activelines))
  end)

  it("are texts where isolates compile them", function()
    local names = embed.list("lua/macp/modes/inside/")
    assert.is_true(#names > 5)
    for _, name in ipairs(names) do assert.equal("--", embed.read(name):sub(1, 2)) end
    assert.equal("--", embed.read("modes/decision/mode.lua"):sub(1, 2))
  end)

  it("take no memory until they are read again", function()
    local function read_all()
      local sum, bytes = {}, 0
      for i, name in ipairs(embed.list("")) do
        local text = embed.read(name)
        sum[i], bytes = crypto.sha256_hex(text), bytes + #text
      end
      return table.concat(sum), bytes
    end
    local before, bytes = read_all()
    collectgarbage()
    collectgarbage()
    local resident = sys.rss_bytes()
    sys.trim()
    assert.is_true(sys.rss_bytes() < resident - bytes / 2)
    assert.equal(before, (read_all()))
  end)

  it("are absent under other names", function()
    assert.is_nil(embed.read("lua/macp/core/ids"))
    assert.same({}, embed.list("nowhere/"))
  end)
end)
