-- Quorum: one request for approval, one ballot per participant. It ends approved when enough approve, rejected when
-- the ballots that are left cannot make it enough.
local macp   = require "macp"
local bar    = require "lib.bar"
local policy = require "lib.policy"

local TALLY = { Approve = "approve", Reject = "reject", Abstain = "abstain" }

-- A ballot is final, and accepted also after the bar is reached.
local function ballot(choice, doc)
  return {
    doc     = doc,
    from    = "participant",
    payload = [[
      string request_id = 1;
      string reason     = 2;
    ]],
    needs = {
      { "there is a request for approval",     function(s) return s.request ~= nil end },
      { "the ballot names the request",        function(s, p) return p.request_id == s.request.request_id end },
      { "one ballot per participant",          function(s, p, by) return not s.ballots[by] end },
    },
    apply = function(s, p, by)
      s.ballots[by] = { request_id = p.request_id, choice = choice, sender = by, reason = p.reason }
      local t, field = s.tally, TALLY[choice]
      t[field], t.ballots = t[field] + 1, t.ballots + 1
    end,
  }
end

return {
  id      = "macp.mode.quorum.v1",
  version = "1.0.0",
  title   = "Quorum Mode",
  summary = "A coordinator asks for approval; participants approve, reject or abstain, and a commitment seals the result.",
  package = "macp.modes.quorum.v1",

  participants = { model = "quorum", min = 1 },   -- the electorate; the coordinator may belong to it
  determinism  = "semantic-deterministic",

  state = {
    ballots = {},                                 -- by sender; request stays absent until there is one
    tally   = { approve = 0, reject = 0, abstain = 0, ballots = 0 },
  },

  messages = {
    ApprovalRequest = {
      doc     = "Asks the electorate for approval, once per session.",
      from    = "initiator",
      payload = [[
        string request_id         = 1 [required];
        string action             = 2;
        string summary            = 3;
        bytes  details            = 4;
        uint32 required_approvals = 5 [min = 1];
      ]],
      needs = {
        { "one request per session", function(s) return not s.request end },
        { "no more approvals are required than there are participants",
          function(s, p, by, c) return p.required_approvals <= c.n end },
        { "the policy's bar can be reached by the participants", function(s, p, by, c)
          local needed = bar.of(p.required_approvals, c)
          return needed >= 1 and needed <= c.n
        end },
      },
      apply = function(s, p, by)
        s.request = { request_id = p.request_id, action = p.action, summary = p.summary, details = p.details,
          required_approvals = p.required_approvals, requested_by = by }
      end,
    },

    Approve = ballot("Approve", "Approves the request."),
    Reject  = ballot("Reject", "Rejects the request."),
    Abstain = ballot("Abstain", "Leaves the pool of possible approvers; neither approves nor rejects."),
  },

  outcomes = {
    { action = "quorum.approved", positive = true, when = bar.is_reached,
      doc = "when enough participants approve: as many as the request or the policy says" },
    { action = "quorum.rejected", positive = false,
      doc = "when there is a ballot and the ballots left cannot make it enough",
      when = function(s, c) return s.request ~= nil and s.tally.ballots > 0 and not bar.is_reachable(s, c) end },
  },

  policy = policy,

  invariants = {
    { "the tally counts every ballot", function(s)
      local t = s.tally
      return t.ballots == macp.count(s.ballots) and t.approve + t.reject + t.abstain == t.ballots
        and macp.all(TALLY, function(field, choice)
          return t[field] == macp.count(s.ballots, function(own) return own.choice == choice end)
        end)
    end },
    { "every ballot is for the request", function(s)
      return macp.all(s.ballots, function(own) return own.request_id == s.request.request_id end)
    end },
  },
}
