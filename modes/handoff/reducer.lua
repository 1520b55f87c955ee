-- The handoff as people read it: the offers, their answers, which context was given. The size of a view is bounded: a
-- session may have any number of offers and contexts.
local macp   = require "macp"
local offers = require "lib.offers"

local MAX_OFFERS, MAX_CONTEXTS = 500, 20

local function contexts(list)
  local out = macp.array {}
  for i = #list, math.max(1, #list - MAX_CONTEXTS + 1), -1 do
    out[#out + 1] = { content_type = list[i].content_type, bytes = #list[i].context }
  end
  return out
end

local function status(s)
  if s.accepted then return "accepted" end
  if s.pending then return "offered" end
  return s.declined > 0 and "declined" or "waiting"
end

local function shown(s)
  local out = macp.array {}
  for id, own in pairs(s.offers) do
    if #out == MAX_OFFERS then break end
    local given = s.contexts[id] or {}
    out[#out + 1] = {
      id = id, target = own.target_participant, scope = own.scope, reason = own.reason, by = own.offered_by,
      disposition = own.disposition, answered_by = own.accepted_by or own.declined_by, answer = own.outcome_reason,
      implicit = own.implicit, contexts = contexts(given), context_count = #given,
    }
  end
  return out
end

return {
  render = function(s, c)
    local timeout = c.rules.acceptance.implicit_accept_timeout_ms
    local taken = s.accepted and s.offers[s.accepted]
    return {
      status  = status(s),
      owner   = taken and taken.accepted_by or c.initiator,
      pending = s.pending, accepted = s.accepted, declined = s.declined,
      offers  = shown(s),
      policy  = { id = c.policy_id, implicit_accept_timeout_ms = timeout > 0 and timeout or nil },
    }
  end,

  summary = function(s)
    local offer = offers.pending(s) or s.accepted and s.offers[s.accepted]
    if offer then return status(s) .. ": " .. offer.target_participant end
    return s.declined > 0 and "declined: " .. s.declined .. " times" or "no offer yet"
  end,
}
