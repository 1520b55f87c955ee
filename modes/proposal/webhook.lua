-- Deliveries about a proposal carry where the negotiation stands, next to the event's own data.
local macp     = require "macp"
local standing = require "lib.standing"

return {
  shape = function(event, s)
    local data = macp.copy(event.data or {})
    data.negotiation = { phase = s.phase, proposals = s.tally.count, converged_on = standing.converged_on(s) }
    return data
  end,
}
