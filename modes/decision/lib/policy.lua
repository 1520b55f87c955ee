-- Governance of decisions (RFC-MACP-0012): rules, and what a commitment must satisfy. Votes are pooled over proposals.
-- Every failing check denies with its own reason; reasons begin with the rule they come from.
local macp = require "macp"

local LEGACY_SUPERMAJORITY = 2 / 3

local rules = {
  ["voting.algorithm"] = { type = "string", default = "none", doc = "how ballots decide",
    one_of = { "none", "majority", "supermajority", "unanimous", "weighted", "plurality" },
    caution = { "does not bind an empty tally: a commitment without votes passes", below = 3, except = "none",
      unless = { "commitment.require_vote_quorum", true } } },
  ["voting.threshold"] = { type = "number", over = 0, max = 1, default = 0.5,
    doc = "share of decisive votes that passes",
    cases = { { "voting.algorithm", "majority", min = 0.5 },
              { "voting.algorithm", "supermajority", over = 0.5, required = true } } },
  ["voting.quorum.type"] = { type = "string", one_of = { "count", "percentage" }, default = "count",
    doc = "whether quorum.value counts voters or percents of the participants" },
  ["voting.quorum.value"] = { type = "number", min = 0, default = 0, doc = "participation that a commitment needs",
    cases = { { "voting.quorum.type", "percentage", max = 100 } },
    inert_without = { "commitment.require_vote_quorum", true } },
  ["voting.weights"] = { type = "map", over = 0, nonempty = true, default = {}, doc = "the electorate under 'weighted'",
    requires = { "voting.algorithm", "weighted" }, inert_without = { "voting.algorithm", "weighted" } },
  ["objection_handling.critical_severity_vetoes"] = { type = "boolean", default = false,
    doc = "whether critical objections can veto" },
  ["objection_handling.veto_threshold"] = { type = "integer", min = 1, default = 1,
    doc = "critical objections that make a veto" },
  ["objection_handling.critical_objection_action"] = { type = "string", default = "deny", since = 2,
    one_of = { "deny", "finalize_decline", "hold" }, doc = "what a veto does" },
  ["evaluation.required_before_voting"] = { type = "boolean", default = false,
    doc = "whether a commitment needs a qualifying evaluation" },
  ["evaluation.minimum_confidence"] = { type = "number", min = 0, max = 1, default = 0,
    doc = "confidence of a qualifying evaluation", inert_without = { "evaluation.required_before_voting", true } },
  ["commitment.require_vote_quorum"] = { type = "boolean", default = false, doc = "activates voting.quorum" },
  ["commitment.allow_decline_over_approval"] = { type = "boolean", default = false, since = 2,
    doc = "whether a decline is possible although the vote passed" },
}

-- Returns true when a veto turns this negative commitment into an authorised decline.
local function check_veto(t, d, r)
  if not r.critical_severity_vetoes or t.critical < r.veto_threshold then return false end
  local who = table.concat(macp.keys(t.critical_by), ", ")
  local action = r.critical_objection_action
  if action == "finalize_decline" and not d.positive then
    d.allow("objection_handling.critical_objection_action: %d critical objections by %s finalise a decline",
      t.critical, who)
    return true
  end
  local effect = action == "hold" and "hold the session for escalation" or "veto"
  d.deny("objection_handling.critical_severity_vetoes: %d critical objections (threshold %d) by %s %s", t.critical,
    r.veto_threshold, who, effect)
  return false
end

local function check_evaluations(t, d, r)
  if not r.required_before_voting then return end
  if t.evaluations == 0 then
    d.deny("evaluation.required_before_voting: no evaluation was provided")
  elseif not t.best_confidence or t.best_confidence < r.minimum_confidence then
    d.deny("evaluation.minimum_confidence: no decisive evaluation reaches the confidence %.2f", r.minimum_confidence)
  end
end

local function check_quorum(t, d, r, n)
  local quorum = r.quorum
  local reached = t.voters >= quorum.value
  -- Multiplied out: 29 / 100 * 100 is a little less than 29.
  if quorum.type == "percentage" then reached = n > 0 and t.voters * 100 >= quorum.value * n or quorum.value <= 0 end
  if not reached then
    d.deny("voting.quorum.value: %d of %d participants voted, the quorum is %s%s", t.voters, n,
      tostring(quorum.value), quorum.type == "percentage" and " percent" or "")
  end
end

-- Weight of approvals, weight of all decisive ballots, number of decisive rejects.
local function weigh(t, weights)
  local approve, total, rejects = 0, 0, 0
  for who, own in pairs(t.by) do
    local weight = weights[who] or 0
    approve = approve + own.approve * weight
    total   = total + (own.approve + own.reject) * weight
    if weight > 0 then rejects = rejects + own.reject end
  end
  return approve, total, rejects
end

local function ratio_result(approve, total, threshold, name)
  local text = string.format("%s: %s of %s decisive votes approve, %.2f needed", name, tostring(approve),
    tostring(total),
    threshold)
  return approve / total >= threshold and "passed" or "failed", text
end

local function unanimous_result(t, c)
  local missing = macp.filter(c.participants, function(who)
    local own = t.by[who]
    return not own or own.approve == 0
  end)
  local text = string.format("unanimous: %d participants have not approved, %d rejects", #missing, t.reject)
  return c.n > 0 and #missing == 0 and t.reject == 0 and "passed" or "failed", text
end

-- "passed", "failed" or "none" (no decisive ballot), what to say about it, number of decisive rejects.
local function tally_result(t, r, c)
  local name = r.algorithm
  if name == "weighted" then
    local approve, total, rejects = weigh(t, r.weights)
    if total == 0 then return "none", "weighted: no ballot with weight", rejects end
    if total < 0 then return "failed", "weighted: the electorate has a negative weight", rejects end
    local result, text = ratio_result(approve, total, r.threshold, name)
    return result, text, rejects
  end
  local decisive = t.approve + t.reject
  if decisive == 0 then return "none", name .. ": no decisive ballot", 0 end
  local result, text
  if name == "majority" then
    result, text = ratio_result(t.approve, decisive, r.threshold, name)
  elseif name == "supermajority" then
    result, text = ratio_result(t.approve, decisive, r.threshold > 0.5 and r.threshold or LEGACY_SUPERMAJORITY, name)
  elseif name == "unanimous" then
    result, text = unanimous_result(t, c)
  elseif name == "plurality" then
    result = t.approve > t.reject and "passed" or "failed"
    text = string.format("plurality: %d approve, %d reject", t.approve, t.reject)
  else
    result, text = "failed", "the algorithm '" .. tostring(name) .. "' is unknown"
  end
  return result, text, t.reject
end

local function judge_positive(result, text, d, c)
  if result == "passed" then
    d.allow("voting.threshold: %s", text)
  elseif result == "failed" then
    d.deny("voting.threshold: %s", text)
  elseif c.schema_version >= 3 or c.rules.commitment.require_vote_quorum then
    d.deny("voting.algorithm: no votes cast (%s)", text)
  else
    d.allow("voting.algorithm: %s; an empty tally does not bind under schema version %d", text, c.schema_version)
  end
end

local function judge_negative(result, text, rejects, d, c)
  if result == "none" then
    d.deny("voting.algorithm: a decline needs a decisive explicit REJECT (%s)", text)
    return
  end
  local overrides = result ~= "passed" or c.rules.commitment.allow_decline_over_approval
  if not overrides then
    d.deny("commitment.allow_decline_over_approval: the vote passed and declining over it is not enabled (%s)", text)
  end
  if rejects == 0 then
    d.deny("voting.algorithm: a decline needs a decisive explicit REJECT; incomplete participation is not a rejection (%s)",
      text)
  elseif overrides then
    d.allow("voting.threshold: %s", text)
  end
end

local function evaluate(s, d, c)
  local r, t = c.rules, s.tally
  if check_veto(t, d, r.objection_handling) then return end
  check_evaluations(t, d, r.evaluation)
  if r.commitment.require_vote_quorum then check_quorum(t, d, r.voting, c.n) end
  if r.voting.algorithm == "none" then
    return d.allow("voting.algorithm: no threshold required")
  end
  local result, text, rejects = tally_result(t, r.voting, c)
  if d.positive then
    judge_positive(result, text, d, c)
  else
    judge_negative(result, text, rejects, d, c)
  end
end

return { rules = rules, evaluate = evaluate }
