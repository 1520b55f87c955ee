-- Every conformance fixture of ours.

package.path = "./spec/conformance/?.lua;" .. package.path
local player = require("player")

describe("conformance", function()
  local modes

  setup(function() modes = player.modes() end)
  teardown(function() modes:close() end)

  it("has a set of fixtures", function()
    assert.is_true(#player.list("spec/conformance/fixtures") >= 30)
  end)

  it("holds for every fixture", function()
    local failures = {}
    for _, file in ipairs(player.list("spec/conformance/fixtures")) do
      local rev = assert(modes:get(file.mode), file.mode .. " is not loaded")
      local problem = player.play(rev, file)
      if problem then failures[#failures + 1] = file.name .. ": " .. problem end
    end
    assert.same({}, failures)
  end)

  it("notices a wrong expectation", function()
    local file = player.list("spec/conformance/fixtures")[1]
    local broken = { name = file.name, mode = file.mode,
      text = (file.text:gsub('"expect": "accept"', '"expect": "reject"', 1)) }
    assert.is_string(player.play(modes:get(file.mode), broken))
  end)
end)
