return {
  filter = function(event, s) return event.type ~= "proposal.updated" or s.phase == "closed" end,
  shape  = function(event, s) return { lot = s.lot and s.lot.id, phase = s.phase, winner = s.winner } end,
}
