-- Each message of a decision concerns one proposal; recommendations and votes count as contributions. Like in the other
-- standard modes the label is the payload's verdict, action or option, else the message's type.
local ALLOW_OR_DENY = { APPROVE = "allow", REJECT = "deny", BLOCK = "deny" }

return {
  events = {
    Proposal   = { "proposal.created", id = "proposal_id", label = function(p) return p.option end },
    Evaluation = { "proposal.updated", id = "proposal_id",
      label = function(p) return p.recommendation end,
      vote = function(p) return ALLOW_OR_DENY[p.recommendation] end,
      confidence = function(p) return p.confidence end },
    Objection  = { "proposal.updated", id = "proposal_id", label = "Objection" },
    Vote       = { "proposal.updated", id = "proposal_id", label = function(p) return p.vote end,
      vote = function(p) return ALLOW_OR_DENY[p.vote] end, confidence = 1.0 },
  },
}
