-- The request as people read it: how many approvals it needs and has, who said what, who is still silent.
local macp = require "macp"
local bar  = require "lib.bar"

local function status(s, c)
  if s.request == nil then return "waiting" end
  if bar.is_reached(s, c) then return "approved" end
  return bar.is_reachable(s, c) and "open" or "unreachable"
end

local function request(s, c)
  local own = s.request
  if own == nil then return nil end
  return { id = own.request_id, action = own.action, summary = own.summary, by = own.requested_by,
    required_approvals = own.required_approvals, bar = bar.of(own.required_approvals, c),
    details_bytes = #own.details }
end

return {
  render = function(s, c)
    local t = s.tally
    return {
      status  = status(s, c),
      request = request(s, c),
      tally   = { approve = t.approve, reject = t.reject, abstain = t.abstain, participants = c.n },
      ballots = macp.map(s.ballots, function(own) return own.choice end),
      silent  = macp.array(macp.filter(c.participants, function(who) return not s.ballots[who] end)),
      policy  = { id = c.policy_id, threshold = c.rules.threshold.value and c.rules.threshold.type or nil },
    }
  end,

  summary = function(s, c)
    if s.request == nil then return "no request yet" end
    return string.format("%s: %d of %s approvals, %d reject, %d abstain", status(s, c), s.tally.approve,
      tostring(bar.of(s.request.required_approvals, c)), s.tally.reject, s.tally.abstain)
  end,
}
