-- Offers: at most one is pending, and none is made any more once one was accepted. `pending`, `accepted` and `declined`
-- tell that without looking through the offers.
local M = {}

function M.make(s, p, by, t)
  s.offers[p.handoff_id] = { handoff_id = p.handoff_id, target_participant = p.target_participant, scope = p.scope,
    reason = p.reason, offered_by = by, disposition = "Offered", offered_at = t }
  s.pending = p.handoff_id
end

function M.accept(s, p, by)
  local offer = s.offers[p.handoff_id]
  offer.disposition, offer.accepted_by, offer.outcome_reason = "Accepted", by, p.reason
  offer.implicit = p.implicit or nil
  s.pending, s.accepted = nil, p.handoff_id
end

function M.decline(s, p, by)
  local offer = s.offers[p.handoff_id]
  offer.disposition, offer.declined_by, offer.outcome_reason = "Declined", by, p.reason
  s.pending, s.declined = nil, s.declined + 1
end

function M.pending(s)
  return s.pending and s.offers[s.pending]
end

return M
