-- Each message concerns one offer. What the context holds is for its target: people see its kind and size.
local function about(name, vote)
  return { "proposal.updated", id = "handoff_id", label = name, vote = vote }
end

return {
  events = {
    HandoffOffer   = { "proposal.created", id = "handoff_id", label = "HandoffOffer" },
    HandoffContext = about("HandoffContext"),
    HandoffAccept  = about("HandoffAccept", "allow"),
    HandoffDecline = about("HandoffDecline", "deny"),
  },
}
