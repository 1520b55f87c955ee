-- Deliveries about a proposal carry where the decision stands, next to the event's own data.
local macp = require "macp"

return {
  shape = function(event, s)
    local data = macp.copy(event.data or {})
    data.decision = { phase = s.phase, approve = s.tally.approve, reject = s.tally.reject, abstain = s.tally.abstain }
    return data
  end,
}
