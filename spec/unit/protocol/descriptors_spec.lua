local descriptors = require("macp.protocol.descriptors")
local embed = require("host.embed")

local SET = embed.read("proto/macp.pb")

describe("the files of a descriptor set", function()
  it("are found by name and by what they define, imports behind them, each once", function()
    local files = descriptors.new(SET)
    local list = files:defining("macp.v1.SendRequest")
    assert.same(list, files:file("macp/v1/core.proto"))
    local seen = {}
    for _, bytes in ipairs(list) do
      assert.is_nil(seen[bytes])
      seen[bytes] = true
    end
    assert.is_true(#list > 1)
    assert.same({ list[#list] }, files:file(list[#list]:match("^\10.([%w/_]+%.proto)")))
  end)

  it("define nested names and nothing else", function()
    local files = descriptors.new(SET)
    for _, name in ipairs({ "macp.v1.Envelope", "macp.v1.Envelope.payload", "macp.v1.MACPRuntimeService.Send",
      "grpc.health.v1.HealthCheckResponse.ServingStatus", "grpc.health.v1.HealthCheckResponse.SERVING" }) do
      assert.is_true(files:has(name), name)
    end
    for _, name in ipairs({ "", "macp.v1", "Envelope", ".macp.v1.Envelope", "macp.v1.Envelope.none" }) do
      assert.is_false(files:has(name), name)
      assert.is_nil(files:defining(name))
      assert.is_nil(files:file(name))
    end
  end)

  it("are refused when the set is cut off", function()
    assert.same({}, descriptors.new("").services)
    for cut = 1, 200 do
      local ok = pcall(descriptors.new, SET:sub(1, cut))
      assert.is_false(ok)
    end
  end)
end)
