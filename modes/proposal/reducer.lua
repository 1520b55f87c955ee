-- The negotiation as people read it: which proposals live, who accepts which, what stands in the way. The size of a view
-- is bounded: a session may have any number of messages.
local macp     = require "macp"
local standing = require "lib.standing"

local MAX_PROPOSALS, MAX_RECENT = 500, 50

local function proposals(s)
  local out = macp.array {}
  for id, own in pairs(s.proposals) do
    if #out == MAX_PROPOSALS then break end
    out[#out + 1] = {
      id = id, title = own.title, summary = own.summary, tags = macp.array(macp.copy(own.tags)), by = own.proposer,
      supersedes = own.supersedes_proposal_id, disposition = own.disposition, details_bytes = #own.details,
      accepts = s.tally.support[id] or 0, rejects = s.tally.rejects[id] or 0,
      terminal_rejects = s.tally.terminal[id] or 0,
    }
  end
  return out
end

-- The last entries, newest first.
local function recent(list)
  local out = macp.array {}
  for i = #list, math.max(1, #list - MAX_RECENT + 1), -1 do out[#out + 1] = macp.copy(list[i]) end
  return out
end

return {
  render = function(s, c)
    local limit = c.rules.counter_proposal.max_rounds
    return {
      phase = s.phase,
      proposals = proposals(s), proposal_count = s.tally.count,
      accepts = s.accepts,
      silent = macp.array(macp.filter(c.participants, function(who) return not s.accepts[who] end)),
      converged_on = standing.converged_on(s),
      rejections = recent(s.rejections),
      terminal_rejections = recent(s.terminal_rejections),
      counter_proposals = { made = s.tally.counters, limit = limit > 0 and limit or nil },
      policy = { id = c.policy_id, criterion = c.rules.acceptance.criterion,
        terminal_on_any_reject = c.rules.rejection.terminal_on_any_reject },
    }
  end,

  summary = function(s, c)
    local on = standing.converged_on(s)
    local text = string.format("%s: %d proposals, %d of %d accept, %d rejections", s.phase, s.tally.count,
      macp.count(s.accepts), c.n, #s.rejections)
    return on and text .. ", on " .. on or text
  end,
}
