local sys = require("host.sys")

local console = require("macp.core.console")

describe("console.progress", function()
  local written, is_terminal, now_ms, stubs

  before_each(function()
    written, is_terminal, now_ms = {}, true, 1000
    stubs = {
      stub(sys, "write", function(fd, text) written[#written + 1] = fd .. text end),
      stub(sys, "is_tty", function(fd) return fd == 2 and is_terminal end),
      stub(sys, "mono_ms", function() return now_ms end), stub(sys, "env", function() return "xterm" end),
    }
  end)
  after_each(function()
    for _, each in ipairs(stubs) do each:revert() end
  end)

  it("writes over its line, not too often, and takes it away", function()
    local progress = console.progress()
    progress.show("1 of 3")
    now_ms = 1099
    progress.show("2 of 3")
    now_ms = 1100
    progress.show("3 of 3")
    progress.done()
    assert.same({ "2\r\27[K1 of 3", "2\r\27[K3 of 3", "2\r\27[K" }, written)
  end)

  it("writes nothing where nobody looks, or when there was nothing to show", function()
    console.progress().done()
    is_terminal = false
    local progress = console.progress()
    progress.show("1 of 3")
    progress.done()
    assert.same({}, written)
  end)
end)
