-- What is known about published conformance fixtures.

local M = {}

---Whether a fixture lists the coordinator as a participant, never lets it contribute, and yet expects the commitment to
---be accepted. Convergence needs every participant, so the mode's refusal is the right answer to such a file.
---@param fixture table decoded
function M.contradicts_itself(fixture)
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

return M
