-- Proposal: peers negotiate. Proposals are made and countered until one is accepted by everybody the policy asks for, or
-- somebody rejects one for good.
local macp     = require "macp"
local policy   = require "lib.policy"
local standing = require "lib.standing"

local function is_live(s, p) return s.proposals[p.proposal_id].disposition == "Live" end

local live = { "the proposal is live", is_live }

return {
  id      = "macp.mode.proposal.v1",
  version = "1.0.0",
  title   = "Proposal Mode",
  summary = "Peers propose, counter, accept, reject and withdraw until they converge or somebody rejects for good.",
  package = "macp.modes.proposal.v1",

  participants = { model = "peer", min = 1 },
  determinism  = "semantic-deterministic",

  state = {
    phase               = "Negotiating",  -- Negotiating, Converged, TerminalRejected, Committed
    proposals           = {},             -- by id
    accepts             = {},             -- by sender: the proposal it accepts now
    rejections          = macp.array {},  -- all of them
    terminal_rejections = macp.array {},  -- those that stand
    tally               = standing.new(),
  },

  messages = {
    Proposal = {
      doc     = "Makes a proposal. Proposing is not accepting.",
      from    = "participant",
      payload = [[
        string          proposal_id = 1 [required, new = proposals];
        string          title       = 2;
        string          summary     = 3;
        bytes           details     = 4;
        repeated string tags        = 5;
      ]],
      apply = function(s, p, by)
        standing.propose(s, { proposal_id = p.proposal_id, title = p.title, summary = p.summary, details = p.details,
          tags = macp.array(p.tags), proposer = by, disposition = "Live" })
      end,
    },

    CounterProposal = {
      doc     = "Makes a proposal that answers another one, which stays live.",
      from    = "participant",
      payload = [[
        string proposal_id            = 1 [required, new = proposals];
        string supersedes_proposal_id = 2 [required, ref = proposals];
        string title                  = 3;
        string summary                = 4;
        bytes  details                = 5;
      ]],
      needs = {
        { "the policy allows another counter-proposal", function(s, p, by, c)
          local limit = c.rules.counter_proposal.max_rounds
          return limit == 0 or s.tally.counters < limit
        end },
      },
      apply = function(s, p, by)
        standing.propose(s, { proposal_id = p.proposal_id, supersedes_proposal_id = p.supersedes_proposal_id,
          title = p.title, summary = p.summary, details = p.details, tags = macp.array {}, proposer = by,
          disposition = "Live" })
      end,
    },

    Accept = {
      doc     = "Accepts a proposal; a later acceptance of the same sender moves it.",
      from    = "participant",
      payload = [[
        string proposal_id = 1 [ref = proposals];
        string reason      = 2;
      ]],
      needs = { live },
      apply = function(s, p, by, c) standing.accept(s, p.proposal_id, by, c) end,
    },

    Reject = {
      doc     = "Rejects a proposal; terminally, it ends the negotiation unless the proposal is withdrawn.",
      from    = "participant",
      payload = [[
        string proposal_id = 1 [ref = proposals];
        bool   terminal    = 2;
        string reason      = 3;
      ]],
      needs = { live },
      apply = function(s, p, by, c)
        standing.reject(s, p, by, p.terminal or c.rules.rejection.terminal_on_any_reject)
      end,
    },

    Withdraw = {
      doc     = "Takes an own proposal back, with the acceptances and terminal rejections it met.",
      from    = "participant",
      payload = [[
        string proposal_id = 1 [required, ref = proposals];
        string reason      = 2;
      ]],
      needs = {
        { "the sender made the proposal",
          function(s, p, by) return s.proposals[p.proposal_id].proposer == by end, "FORBIDDEN" },
        live,
      },
      apply = function(s, p) standing.withdraw(s, p.proposal_id) end,
    },

    Commitment = { apply = function(s) s.phase = "Committed" end },
  },

  outcomes = {
    { action = "proposal.accepted", positive = true,
      doc = "when a live proposal is accepted by all that the policy asks for, and no terminal rejection stands",
      when = function(s) return s.phase == "Converged" end },
    { action = "proposal.rejected", positive = false, doc = "when a terminal rejection of a live proposal stands",
      when = function(s) return s.phase == "TerminalRejected" end },
  },

  policy = policy,

  invariants = {
    { "every acceptance names a live proposal, and the support counts them", function(s)
      return macp.all(s.accepts, function(id) return s.proposals[id].disposition == "Live" end)
        and macp.all(s.proposals, function(_, id)
          return (s.tally.support[id] or 0) == macp.count(s.accepts, function(accepted) return accepted == id end)
        end)
    end },
    { "every terminal rejection names a live proposal and is counted", function(s)
      return macp.all(s.terminal_rejections, function(own) return s.proposals[own.proposal_id].disposition == "Live" end)
        and macp.sum(s.tally.terminal) == #s.terminal_rejections
        and macp.sum(s.tally.rejects) == #s.rejections
    end },
    { "the phase follows from proposals, acceptances and rejections", function(s, c)
      local function accepted(own, id)
        if own.disposition ~= "Live" then return false end
        local criterion, asked = c.rules.acceptance.criterion, c.participants
        if criterion == "initiator" then return s.accepts[c.initiator] == id end
        if criterion == "counterparty" then asked = macp.filter(asked, function(who) return who ~= own.proposer end) end
        return #asked > 0 and macp.all(asked, function(who) return s.accepts[who] == id end)
      end
      local phase = #s.terminal_rejections > 0 and "TerminalRejected"
        or macp.any(s.proposals, accepted) and "Converged" or "Negotiating"
      return s.phase == "Committed" or s.phase == phase
    end },
    { "the counts are those of the proposals", function(s)
      return s.tally.count == macp.count(s.proposals)
        and s.tally.counters == macp.count(s.proposals, function(own) return own.supersedes_proposal_id end)
    end },
  },
}
