-- Running sums over evaluations, objections and ballots. Evaluating a policy then costs the number of participants,
-- and showing a session the number of proposals, however many messages there are.
local FIELD = { APPROVE = "approve", REJECT = "reject", ABSTAIN = "abstain" }

local M = {}

function M.new()
  return { approve = 0, reject = 0, abstain = 0, voters = 0, by = {}, evaluations = 0, critical = 0, critical_by = {},
    count = 0, proposals = {} }
end

function M.propose(t, id)
  t.count = t.count + 1
  t.proposals[id] = { approve = 0, reject = 0, abstain = 0, evaluations = 0, objections = 0 }
end

-- best_confidence stays absent until somebody recommends more than REVIEW.
function M.evaluate(t, p)
  local own = t.proposals[p.proposal_id]
  own.evaluations = own.evaluations + 1
  t.evaluations = t.evaluations + 1
  if p.recommendation ~= "REVIEW" and (not t.best_confidence or p.confidence > t.best_confidence) then
    t.best_confidence = p.confidence
  end
end

function M.object(t, p, by)
  local own = t.proposals[p.proposal_id]
  own.objections = own.objections + 1
  if p.severity == "critical" then
    t.critical = t.critical + 1
    t.critical_by[by] = (t.critical_by[by] or 0) + 1
  end
end

function M.vote(t, p, by)
  local own = t.by[by]
  if not own then
    own = { approve = 0, reject = 0, abstain = 0 }
    t.by[by] = own
    t.voters = t.voters + 1
  end
  local field, proposal = FIELD[p.vote], t.proposals[p.proposal_id]
  own[field] = own[field] + 1
  proposal[field] = proposal[field] + 1
  t[field] = t[field] + 1
end

return M
