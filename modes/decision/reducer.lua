-- The decision as people read it: proposals with their own counts, who voted how, what stands in the way. The size of
-- a view is bounded: a session may have any number of messages.
local macp = require "macp"

local MAX_PROPOSALS, MAX_RECENT = 500, 50

local function proposals(s)
  local out = macp.array {}
  for id, proposal in pairs(s.proposals) do
    if #out == MAX_PROPOSALS then break end
    local own = s.tally.proposals[id]
    out[#out + 1] = {
      id = id, option = proposal.option, rationale = proposal.rationale, by = proposal.sender,
      tally = { approve = own.approve, reject = own.reject, abstain = own.abstain },
      evaluations = own.evaluations, objections = own.objections,
      votes = macp.map(s.votes[id] or {}, function(ballot) return ballot.vote end),
    }
  end
  return out
end

-- The last entries, newest first.
local function recent(list)
  local out = macp.array {}
  for i = #list, math.max(1, #list - MAX_RECENT + 1), -1 do out[#out + 1] = list[i] end
  return out
end

return {
  render = function(s, c)
    local t = s.tally
    return {
      phase = s.phase,
      proposals = proposals(s),
      proposal_count = t.count,
      evaluations = recent(s.evaluations),
      objections = recent(s.objections),
      tally = { approve = t.approve, reject = t.reject, abstain = t.abstain, voters = t.voters, participants = c.n },
      critical_objections = t.critical,
      policy = { id = c.policy_id, algorithm = c.rules.voting.algorithm },
    }
  end,

  summary = function(s)
    local t = s.tally
    return string.format("%s: %d proposals, %d approve, %d reject", s.phase, t.count, t.approve, t.reject)
  end,
}
