-- Handoff: the owner of a piece of work offers it, gives context, and one target takes it over or declines. Silence can
-- be consent: a policy names after how long.
local macp   = require "macp"
local offers = require "lib.offers"

local function offer_of(s, p) return s.offers[p.handoff_id] end

local is_target = { "the sender is the target of the offer",
  function(s, p, by) return offer_of(s, p).target_participant == by end, "FORBIDDEN" }

local is_offered = { "the offer is pending", function(s, p) return offer_of(s, p).disposition == "Offered" end }

-- In whose name: the field may stay empty.
local function speaks_for_itself(field)
  return { "a sender names nobody but itself in '" .. field .. "'",
    function(s, p, by) return p[field] == "" or p[field] == by end }
end

return {
  id      = "macp.mode.handoff.v1",
  version = "1.0.0",
  title   = "Handoff Mode",
  summary = "An owner offers its work to a participant with context; the target takes it over or declines.",
  package = "macp.modes.handoff.v1",

  participants = { model = "delegated", min = 2, initiator = "required" },
  determinism  = "context-frozen",

  state = {                             -- pending and accepted are ids, absent until there is one
    offers   = {},                      -- by id
    contexts = {},                      -- by offer: in the order of their arrival
    declined = 0,
  },

  messages = {
    HandoffOffer = {
      doc     = "Offers the work to one participant; the next offer needs a decline.",
      from    = "initiator",
      payload = [[
        string handoff_id         = 1 [required, new = offers];
        string target_participant = 2 [required];
        string scope              = 3;
        string reason             = 4;
      ]],
      needs = {
        { "the target is a participant other than the sender", function(s, p, by, c)
          return p.target_participant ~= by and c.is_participant(p.target_participant)
        end },
        { "no offer is pending",      function(s) return not s.pending end },
        { "no offer was accepted",    function(s) return not s.accepted end },
      },
      apply = function(s, p, by, c) offers.make(s, p, by, c.t) end,
    },

    HandoffContext = {
      doc     = "Adds context to an offer, also after it was answered.",
      from    = "participant",
      payload = [[
        string handoff_id   = 1 [ref = offers];
        string content_type = 2;
        bytes  context      = 3;
      ]],
      needs = {
        { "the sender made the offer", function(s, p, by) return offer_of(s, p).offered_by == by end, "FORBIDDEN" },
      },
      apply = function(s, p, by)
        local list = s.contexts[p.handoff_id]
        if not list then
          list = macp.array {}
          s.contexts[p.handoff_id] = list
        end
        list[#list + 1] = { content_type = p.content_type, context = p.context, sender = by }
      end,
    },

    HandoffAccept = {
      doc     = "Takes the work over; sent by the clock when the target stays silent as long as the policy says.",
      from    = { "participant", "runtime" },
      payload = [[
        string handoff_id  = 1 [ref = offers];
        string accepted_by = 2;
        string reason      = 3;
        bool   implicit    = 4;
      ]],
      needs = {
        { "only the runtime accepts implicitly", function(s, p, by, c) return p.implicit == c.synthetic end },
        is_target, speaks_for_itself "accepted_by", is_offered,
      },
      apply = function(s, p, by) offers.accept(s, p, by) end,
    },

    HandoffDecline = {
      doc     = "Leaves the work with its owner, who may offer it again.",
      from    = "participant",
      payload = [[
        string handoff_id  = 1 [ref = offers];
        string declined_by = 2;
        string reason      = 3;
      ]],
      needs = { is_target, speaks_for_itself "declined_by", is_offered },
      apply = function(s, p, by) offers.decline(s, p, by) end,
    },
  },

  timers = {
    implicit_accept = {
      prefix = "implicit-accept",
      due = function(s, c)
        local timeout, offer = c.rules.acceptance.implicit_accept_timeout_ms, offers.pending(s)
        return timeout > 0 and offer and offer.offered_at + timeout
      end,
      emit = function(s)
        local offer = offers.pending(s)
        return { type = "HandoffAccept", sender = offer.target_participant, key = offer.handoff_id,
          payload = { handoff_id = offer.handoff_id, accepted_by = offer.target_participant,
            reason = "implicit accept (timeout)", implicit = true } }
      end,
    },
  },

  outcomes = {
    { action = "handoff.accepted", positive = true, doc = "when an offer was accepted",
      when = function(s) return s.accepted ~= nil end },
    { action = "handoff.declined", positive = false,
      doc = "when an offer was declined, none is pending and none was accepted",
      when = function(s) return s.declined > 0 and not s.accepted and not s.pending end },
  },

  policy = {
    rules = {
      ["acceptance.implicit_accept_timeout_ms"] = { type = "integer", min = 0, max = 86400000, default = 0,
        doc = "after how many milliseconds of session time a pending offer counts as accepted; 0 is never" },
    },
  },

  invariants = {
    { "at most one offer is pending, and none beside an accepted one", function(s)
      local pending = macp.keys(macp.filter(s.offers, function(own) return own.disposition == "Offered" end))
      return #pending <= 1 and pending[1] == s.pending and not (s.pending and s.accepted)
    end },
    { "answers are on record", function(s)
      local accepted = macp.keys(macp.filter(s.offers, function(own) return own.disposition == "Accepted" end))
      return #accepted <= 1 and accepted[1] == s.accepted
        and s.declined == macp.count(s.offers, function(own) return own.disposition == "Declined" end)
    end },
    { "whoever answered is the target", function(s)
      return macp.all(s.offers, function(own)
        local who = own.accepted_by or own.declined_by
        return (who == nil) == (own.disposition == "Offered") and (who == nil or who == own.target_participant)
      end)
    end },
    { "context belongs to an offer", function(s)
      return macp.all(s.contexts, function(_, id) return s.offers[id] ~= nil end)
    end },
  },
}
