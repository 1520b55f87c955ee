-- The request is the proposal; ballots are votes on it. An abstention takes no side.
local function ballot(name, vote)
  return { "proposal.updated", id = "request_id", label = name, vote = vote }
end

return {
  events = {
    ApprovalRequest = { "proposal.created", id = "request_id",
      label = function(p) return p.action ~= "" and p.action or "ApprovalRequest" end },
    Approve = ballot("Approve", "allow"),
    Reject  = ballot("Reject", "deny"),
    Abstain = ballot("Abstain"),
  },
}
