local lot = function(p, by, s) return s.lot.id end

return {
  events = {
    Open    = { "proposal.created", id = lot },
    Seal    = { "proposal.updated", id = lot, label = "sealed a bid" },
    Reveal  = { "proposal.updated", id = lot, label = function(p) return "bids " .. p.amount end },
    Advance = { "proposal.updated", id = lot, label = function(p) return "auction is " .. p.to end },
  },
  hide = { Reveal = { "nonce" } },
}
