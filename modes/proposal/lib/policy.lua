-- Governance of negotiations (RFC-MACP-0012). The criterion and the rejection rule act on messages (lib/standing.lua,
-- mode.lua); the limit of counter-proposals does too, and is confirmed here.
local rules = {
  ["acceptance.criterion"] = { type = "string", one_of = { "all_parties", "counterparty", "initiator" },
    default = "all_parties", doc = "whose acceptance makes a proposal converge" },
  ["counter_proposal.max_rounds"] = { type = "integer", min = 0, default = 0,
    doc = "how many counter-proposals a session may have; 0 is any number" },
  ["rejection.terminal_on_any_reject"] = { type = "boolean", default = false,
    doc = "whether every rejection is terminal" },
}

local function evaluate(s, d, c)
  local limit, made = c.rules.counter_proposal.max_rounds, s.tally.counters
  if limit == 0 or made <= limit then return end
  if d.positive then
    d.deny("counter_proposal.max_rounds: %d counter-proposals, %d allowed", made, limit)
  else
    d.allow("counter_proposal.max_rounds: %d counter-proposals, %d allowed, which does not block a rejection", made,
      limit)
  end
end

return { rules = rules, evaluate = evaluate }
