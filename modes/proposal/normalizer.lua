-- Each message of a negotiation concerns one proposal; acceptances and rejections count as votes on it.
local function titled(name)
  return { "proposal.created", id = "proposal_id",
    label = function(p) return p.title ~= "" and p.title or name end }
end

local function answer(name, vote)
  return { "proposal.updated", id = "proposal_id", label = name, vote = vote }
end

return {
  events = {
    Proposal        = titled "Proposal",
    CounterProposal = titled "CounterProposal",
    Accept          = answer("Accept", "allow"),
    Reject          = answer("Reject", "deny"),
    Withdraw        = answer("Withdraw"),
  },
}
