-- Decision: options are proposed, evaluated, objected to and voted on; a commitment binds the outcome.
-- What a commitment needs beyond one proposal is governance: lib/policy.lua.
local macp   = require "macp"
local policy = require "lib.policy"
local tally  = require "lib.tally"

local has_proposal = function(s) return not macp.empty(s.proposals) end

local ENDS = "when there is a proposal; what the votes must say is the policy's"

local deliberating = { "deliberation is open: there is a proposal and nobody has voted",
  function(s) return s.phase == "Evaluation" end }

return {
  id      = "macp.mode.decision.v1",
  version = "1.0.0",
  title   = "Decision Mode",
  summary = "Participants propose options, evaluate and object, vote, and a commitment binds the outcome.",
  package = "macp.modes.decision.v1",

  participants = { model = "declared", min = 0 },
  determinism  = "semantic-deterministic",

  state = {
    phase       = "Proposal",           -- Proposal, Evaluation, Voting, Committed
    proposals   = {},                   -- by id
    evaluations = macp.array {},
    objections  = macp.array {},
    votes       = {},                   -- by proposal, then by sender
    tally       = tally.new(),          -- running sums, so that a commitment does not count ballots
  },

  messages = {
    Proposal = {
      doc     = "Puts an option up for decision.",
      from    = "participant",
      payload = [[
        string proposal_id     = 1 [required, new = proposals];
        string option          = 2 [required];
        string rationale       = 3;
        bytes  supporting_data = 4;      // stays in the history
      ]],
      needs = { { "no new proposal after the first vote", function(s) return s.phase ~= "Voting" end } },
      apply = function(s, p, by)
        s.proposals[p.proposal_id] = { proposal_id = p.proposal_id, option = p.option, rationale = p.rationale,
          sender = by }
        s.phase = "Evaluation"
        tally.propose(s.tally, p.proposal_id)
      end,
    },

    Evaluation = {
      doc     = "Recommends what to do with a proposal; advisory.",
      from    = "participant",
      payload = [[
        string proposal_id    = 1 [required, ref = proposals];
        string recommendation = 2 [upper, in = "APPROVE|REVIEW|BLOCK|REJECT"];
        double confidence     = 3 [min = 0, max = 1];
        string reason         = 4;
      ]],
      needs = { deliberating },
      apply = function(s, p, by)
        s.evaluations[#s.evaluations + 1] = { proposal_id = p.proposal_id, recommendation = p.recommendation,
          confidence = p.confidence, reason = p.reason, sender = by }
        tally.evaluate(s.tally, p)
      end,
    },

    Objection = {
      doc     = "Objects to a proposal; critical objections can veto under a policy.",
      from    = "participant",
      payload = [[
        string proposal_id = 1 [required, ref = proposals];
        string reason      = 2;
        string severity    = 3 [default = "medium", lower, in = "low|medium|high|critical"];
      ]],
      needs = { deliberating },
      apply = function(s, p, by)
        s.objections[#s.objections + 1] = { proposal_id = p.proposal_id, reason = p.reason, severity = p.severity,
          sender = by }
        tally.object(s.tally, p, by)
      end,
    },

    Vote = {
      doc     = "Votes on a proposal; the first vote closes deliberation.",
      from    = "participant",
      payload = [[
        string proposal_id = 1 [required, ref = proposals];
        string vote        = 2 [upper, in = "APPROVE|REJECT|ABSTAIN"];
        string reason      = 3;
      ]],
      needs = { { "one vote per participant and proposal", function(s, p, by)
        local ballots = s.votes[p.proposal_id]
        return not (ballots and ballots[by])
      end } },
      apply = function(s, p, by)
        local ballots = s.votes[p.proposal_id]
        if not ballots then
          ballots = {}
          s.votes[p.proposal_id] = ballots
        end
        ballots[by] = { proposal_id = p.proposal_id, vote = p.vote, reason = p.reason, sender = by }
        s.phase = "Voting"
        tally.vote(s.tally, p, by)
      end,
    },

    Commitment = { apply = function(s) s.phase = "Committed" end },
  },

  outcomes = {
    { action = "decision.selected", positive = true,  when = has_proposal, doc = ENDS },
    { action = "decision.rejected", positive = false, when = has_proposal, doc = ENDS },
    { action = "decision.declined", positive = false, when = has_proposal, doc = ENDS },
  },

  policy = policy,

  invariants = {
    { "the tally counts every ballot", function(s)
      local ballots = macp.sum(s.votes, function(by_sender) return macp.count(by_sender) end)
      local pooled = macp.sum(s.tally.proposals, function(own) return own.approve + own.reject + own.abstain end)
      return s.tally.approve + s.tally.reject + s.tally.abstain == ballots and pooled == ballots
    end },
    { "the tally knows every proposal, evaluation and objection", function(s)
      return s.tally.count == macp.count(s.proposals) and macp.count(s.tally.proposals) == s.tally.count
        and macp.sum(s.tally.proposals, function(own) return own.evaluations end) == #s.evaluations
        and macp.sum(s.tally.proposals, function(own) return own.objections end) == #s.objections
    end },
    { "every vote, evaluation and objection names a proposal", function(s)
      return macp.all(s.votes, function(_, id) return s.proposals[id] ~= nil end)
        and macp.all(s.evaluations, function(e) return s.proposals[e.proposal_id] ~= nil end)
        and macp.all(s.objections, function(o) return s.proposals[o.proposal_id] ~= nil end)
    end },
  },
}
