-- Each message of a negotiation concerns one proposal; acceptances and rejections count as votes on it.
local function offer(name)
  return { "proposal.created", id = "proposal_id", label = name }
end

local function answer(name, vote)
  return { "proposal.updated", id = "proposal_id", label = name, vote = vote }
end

return {
  events = {
    Proposal        = offer "Proposal",
    CounterProposal = offer "CounterProposal",
    Accept          = answer("Accept", "allow"),
    Reject          = answer("Reject", "deny"),
    Withdraw        = answer("Withdraw"),
  },
}
