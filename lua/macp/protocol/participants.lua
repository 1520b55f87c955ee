-- Rules about the people of a session: the declared list and who has commitment authority.

local white_space = require("macp.protocol.white_space")

local MAX_PARTICIPANTS = 1000

local M = {}

---Checks a declared list. How many a mode needs is the mode's business; an empty list passes here.
---@param participants string[]
---@return true|nil, string? reason
function M.check(participants)
  if #participants > MAX_PARTICIPANTS then
    return nil, string.format("%d participants, at most %d are allowed", #participants, MAX_PARTICIPANTS)
  end
  local seen = {}
  for i, participant in ipairs(participants) do
    if white_space.is_blank(participant) then return nil, string.format("participants[%d] is blank", i) end
    if white_space.is_around(participant) then
      return nil, string.format("participants[%d] has white space around it", i)
    end
    if seen[participant] then return nil, string.format("participants[%d] repeats %q", i, participant) end
    seen[participant] = true
  end
  return true
end

---Whether the sender has the commitment authority of a policy.
---@param rules table decoded policy rules
---@param initiator string
---@param is_participant fun(sender: string): boolean
---@param sender string
function M.has_authority(rules, initiator, is_participant, sender)
  local commitment = type(rules.commitment) == "table" and rules.commitment or nil
  local authority = commitment and commitment.authority
  if authority == "any_participant" then return sender == initiator or is_participant(sender) end
  if authority == "designated_role" then
    local roles = type(commitment.designated_roles) == "table" and commitment.designated_roles or {}
    for _, role in ipairs(roles) do
      if role == sender then return true end
    end
    return false
  end
  return sender == initiator
end

return M
