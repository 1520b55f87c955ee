package.path = "./?.lua;" .. package.path

local sys = require("host.sys")

local eventually = require("spec.support.eventually")
local housekeeping = require("macp.core.housekeeping")

describe("core.housekeeping", function()
  it("collects what a burst left behind once the process is quiet", function()
    local called = 0
    local keeper = housekeeping.start(function() called = called + 1 end)
    local burst = {}
    for i = 1, 100000 do burst[i] = { i, tostring(i) } end
    local peak = sys.lua_bytes()
    assert(#burst == 100000)
    burst = nil -- luacheck: ignore
    eventually(function() return called > 0 and sys.lua_bytes() < peak - 4 * 1024 * 1024 end, 10000, "the collection")
    keeper:stop()
  end)
end)
