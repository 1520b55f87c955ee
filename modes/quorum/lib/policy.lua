-- Governance of quorums (RFC-MACP-0012): the bar may come from the policy. Readiness is bound to the bar already
-- (lib/bar.lua), so the evaluation is a second line that only a lenient reading of outcomes can meet.
local bar = require "lib.bar"

local rules = {
  ["threshold.type"] = { type = "string", one_of = { "n_of_m", "percentage" }, alias = { count = "n_of_m" },
    default = "n_of_m", doc = "whether threshold.value counts approvals or percents of the participants" },
  ["threshold.value"] = { type = "integer", min = 1, unset = 0, cases = { { "threshold.type", "percentage", max = 100 } },
    doc = "approvals that are needed whatever the request asks for" },
  ["abstention.counts_toward_quorum"] = { type = "boolean", default = false,
    caution = { "has no effect: there is no quorum of participation", below = 4, except = false },
    doc = "reserved; no effect" },
  ["abstention.interpretation"] = { type = "string", one_of = { "neutral", "implicit_reject", "ignored" },
    default = "neutral", doc = "how abstentions are told in the reasons; they never decide" },
}

local function evaluate(s, d, c)
  local t, needed = s.tally, bar.override(c)
  local threshold = c.rules.threshold
  if d.positive and needed and t.approve < needed then
    d.deny("threshold.value: %d approvals, %s needed (%s %s)", t.approve, tostring(needed), threshold.type,
      tostring(threshold.value))
  end
  if c.rules.abstention.interpretation == "implicit_reject" and t.abstain > 0 then
    d.allow("abstention.interpretation: %d rejections, abstentions included", t.reject + t.abstain)
  end
end

return { rules = rules, evaluate = evaluate }
