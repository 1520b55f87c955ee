-- Fixtures of a directory given by MACP_CONFORMANCE; those of modes that are not loaded are told and skipped.

package.path = "./spec/conformance/?.lua;" .. package.path
local sys = require("host.sys")

local json = require("host.json")

local fixtures = require("spec.support.conformance")
local player = require("player")

local DIR = sys.env("MACP_CONFORMANCE")

if DIR == nil or DIR == "" then return end

describe("conformance of a directory", function()
  it("holds for every fixture of a loaded mode", function()
    local modes, failures, played = player.modes(), {}, 0
    for _, file in ipairs(player.list(DIR)) do
      local rev = modes:get(file.mode)
      if rev then
        played = played + 1
        local problem = player.play(rev, file)
        if problem and fixtures.contradicts_itself(json.decode(file.text)) then
          assert.truthy(problem:find("no positive outcome is ready", 1, true), file.name .. ": " .. problem)
        elseif problem then failures[#failures + 1] = file.name .. ": " .. problem end
      end
    end
    modes:close()
    assert.is_true(played > 0, "no fixture of a loaded mode in " .. DIR)
    assert.same({}, failures)
  end)
end)
