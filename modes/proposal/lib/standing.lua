-- Standing: how far a negotiation is. Running counts decide it, so that a message costs the same however many proposals,
-- acceptances and rejections there were.
--
-- support    proposal -> how many participants accept it now
-- converged  live proposals that satisfy the acceptance criterion; two at most, and only between two participants
-- rejects    proposal -> how many rejections it met
-- terminal   proposal -> how many of its rejections are terminal
-- counters   how many counter-proposals were made
local macp = require "macp"

local M = {}

function M.new()
  return { support = {}, converged = {}, rejects = {}, terminal = {}, counters = 0, count = 0 }
end

-- Whether a proposal satisfies the acceptance criterion of the policy.
local function satisfies(s, id, c)
  local own, criterion = s.proposals[id], c.rules.acceptance.criterion
  if own.disposition ~= "Live" then return false end
  if criterion == "initiator" then return s.accepts[c.initiator] == id end
  local support, needed = s.tally.support[id] or 0, c.n
  if criterion == "counterparty" then
    needed = needed - 1
    if s.accepts[own.proposer] == id then support = support - 1 end
  end
  return needed > 0 and support == needed
end

local function recheck(s, id, c)
  s.tally.converged[id] = satisfies(s, id, c) or nil
end

-- A terminal rejection wins over convergence.
local function settle(s)
  if #s.terminal_rejections > 0 then
    s.phase = "TerminalRejected"
  else
    s.phase = macp.empty(s.tally.converged) and "Negotiating" or "Converged"
  end
end

function M.propose(s, proposal)
  s.proposals[proposal.proposal_id] = proposal
  local t = s.tally
  t.count = t.count + 1
  if proposal.supersedes_proposal_id then t.counters = t.counters + 1 end
end

-- The latest acceptance of a participant counts.
function M.accept(s, id, by, c)
  local before, support = s.accepts[by], s.tally.support
  if before == id then return end
  s.accepts[by] = id
  support[id] = (support[id] or 0) + 1
  if before then
    support[before] = support[before] - 1
    recheck(s, before, c)
  end
  recheck(s, id, c)
  settle(s)
end

function M.reject(s, p, by, is_terminal)
  local t, id = s.tally, p.proposal_id
  t.rejects[id] = (t.rejects[id] or 0) + 1
  s.rejections[#s.rejections + 1] = { proposal_id = id, sender = by, reason = p.reason, terminal = is_terminal }
  if is_terminal then
    t.terminal[id] = (t.terminal[id] or 0) + 1
    s.terminal_rejections[#s.terminal_rejections + 1] = { proposal_id = id, sender = by, reason = p.reason }
  end
  settle(s)
end

local function drop_terminal(s, id)
  local own = s.tally.terminal[id]
  if own == nil then return end
  s.tally.terminal[id] = nil
  if own == #s.terminal_rejections then
    s.terminal_rejections = macp.array {}
  else
    s.terminal_rejections = macp.array(macp.filter(s.terminal_rejections,
      function(rejection) return rejection.proposal_id ~= id end))
  end
end

-- Takes a proposal back, with the acceptances and the terminal rejections that it met.
function M.withdraw(s, id)
  local t = s.tally
  s.proposals[id].disposition = "Withdrawn"
  if (t.support[id] or 0) > 0 then
    s.accepts = macp.filter(s.accepts, function(accepted) return accepted ~= id end)
  end
  t.support[id], t.converged[id] = nil, nil
  drop_terminal(s, id)
  settle(s)
end

-- The proposal that was converged on; the first in the order of ids when there are two. nil: none.
function M.converged_on(s)
  return macp.keys(s.tally.converged)[1]
end

return M
