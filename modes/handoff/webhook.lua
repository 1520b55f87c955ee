-- Deliveries about an offer carry where the handoff stands, next to the event's own data.
local macp = require "macp"

return {
  shape = function(event, s)
    local data = macp.copy(event.data or {})
    data.handoff = { pending = s.pending, accepted = s.accepted, declined = s.declined }
    return data
  end,
}
