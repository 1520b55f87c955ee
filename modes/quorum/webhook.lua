-- Deliveries about the request carry where it stands, next to the event's own data.
local macp = require "macp"

return {
  shape = function(event, s)
    local data, t = macp.copy(event.data or {}), s.tally
    data.quorum = { request = s.request and s.request.request_id, approve = t.approve, reject = t.reject,
      abstain = t.abstain }
    return data
  end,
}
