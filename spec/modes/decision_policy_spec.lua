-- Governance of decisions, step by step: what a commitment of either polarity meets under a policy. Denials are listed
-- by rule; {} is allowed.

local json = require("host.json")

local modes = require("spec.support.modes")

local DRY = 2

local function people(n)
  local list = {}
  for i = 1, n do list[i] = "p" .. i end
  return list
end

-- so many ballots of each kind, by as many people in this order
local function ballots(approve, reject, abstain)
  local out = {}
  for _ = 1, approve do out[#out + 1] = "APPROVE" end
  for _ = 1, reject or 0 do out[#out + 1] = "REJECT" end
  for _ = 1, abstain or 0 do out[#out + 1] = "ABSTAIN" end
  return out
end

local NO_REJECT = "voting.algorithm: a decline needs a decisive explicit REJECT"
local EMPTY = "voting.algorithm: no votes cast"
local FAILED = "voting.threshold: "
local OVERRIDE = "commitment.allow_decline_over_approval: the vote passed"
local VETO = "objection_handling.critical_severity_vetoes: "
local QUORUM = "voting.quorum.value: "
local PARTIAL = NO_REJECT .. "; incomplete participation is not a rejection"

local function voting(algorithm, more)
  local group = { algorithm = algorithm }
  for key, value in pairs(more or {}) do group[key] = value end
  return { voting = group }
end

local function with(rules, group, values)
  rules[group] = rules[group] or {}
  for key, value in pairs(values) do rules[group][key] = value end
  return rules
end

local MAJORITY, QUORUM_FLAG = voting("majority"), { require_vote_quorum = true }
local OVER = with(voting("majority"), "commitment", { allow_decline_over_approval = true })
local WEIGHTS = voting("weighted", { weights = { p1 = 3, p2 = 1 } })

local function veto(action, more)
  local rules = with(voting("majority"), "objection_handling",
    { critical_severity_vetoes = true, veto_threshold = 2, critical_objection_action = action })
  with(rules, "commitment", QUORUM_FLAG)
  with(rules, "voting", { quorum = { value = 9 } })
  with(rules, "evaluation", { required_before_voting = true })
  for group, values in pairs(more or {}) do with(rules, group, values) end
  return rules
end

local NO_EVALUATION = "evaluation.required_before_voting: no evaluation was provided"

-- { what, { n =, rules =, version = 3, votes =, objections =, evaluations = }, positive denials, negative denials }
local CASES = {
  { "no algorithm takes either at face value", { rules = {} }, {}, {} },
  { "majority: more than half", { rules = MAJORITY, votes = ballots(2, 1) }, {}, { OVERRIDE } },
  { "majority: half is enough", { rules = MAJORITY, votes = ballots(1, 1) }, {}, { OVERRIDE } },
  { "majority: less than half", { rules = MAJORITY, votes = ballots(1, 2) }, { FAILED .. "majority: 1 of 3" }, {} },
  { "majority: abstentions are not decisive", { n = 5, rules = MAJORITY, votes = ballots(1, 1, 3) }, {}, { OVERRIDE } },
  { "majority: no decisive ballot binds from version 3 on", { rules = MAJORITY, votes = ballots(0, 0, 2) }, { EMPTY },
    { NO_REJECT } },
  { "majority: nobody voted, version 2 does not bind", { rules = MAJORITY, version = 2 }, {}, { NO_REJECT } },
  { "majority: nobody voted, version 1 does not bind", { rules = MAJORITY, version = 1 }, {}, { NO_REJECT } },
  { "majority: nobody voted, version 2 binds with the quorum flag", { rules = with(voting("majority"), "commitment",
    QUORUM_FLAG), version = 2 }, { EMPTY }, { NO_REJECT } },
  { "majority: a decline over approval needs the flag and a reject", { rules = OVER, votes = ballots(2, 1) }, {}, {} },
  { "majority: the flag alone declines nothing", { rules = OVER, votes = ballots(3, 0) }, {}, { PARTIAL } },
  { "majority: neither flag nor reject are two reasons", { rules = MAJORITY, votes = ballots(3, 0) }, {},
    { OVERRIDE, PARTIAL } },
  { "majority: a threshold of one needs everybody who decided", { rules = voting("majority", { threshold = 1 }),
    votes = ballots(2, 1) }, { FAILED .. "majority: 2 of 3 decisive votes approve, 1.00 needed" }, {} },
  { "supermajority: 67 of 100 are two thirds", { n = 100, rules = voting("supermajority",
    { threshold = 0.6666666666666666 }), votes = ballots(67, 33) }, {}, { OVERRIDE } },
  { "supermajority: 66 of 100 are not", { n = 100, rules = voting("supermajority", { threshold = 0.6666666666666666 }),
    votes = ballots(66, 34) }, { FAILED .. "supermajority: 66 of 100" }, {} },
  { "supermajority: 2 of 3, 4 of 6 and 20 of 30 are (2 of 3)", { rules = voting("supermajority",
    { threshold = 0.6666666666666666 }), votes = ballots(2, 1) }, {}, { OVERRIDE } },
  { "supermajority: 2 of 3, 4 of 6 and 20 of 30 are (4 of 6)", { n = 6, rules = voting("supermajority",
    { threshold = 0.6666666666666666 }), votes = ballots(4, 2) }, {}, { OVERRIDE } },
  { "supermajority: 2 of 3, 4 of 6 and 20 of 30 are (20 of 30)", { n = 30, rules = voting("supermajority",
    { threshold = 0.6666666666666666 }), votes = ballots(20, 10) }, {}, { OVERRIDE } },
  { "supermajority: a stored threshold of a half means two thirds", { n = 5, rules = voting("supermajority",
    { threshold = 0.5 }), votes = ballots(3, 2) },
    { FAILED .. "supermajority: 3 of 5 decisive votes approve, 0.67" }, {} },
  { "unanimous: everybody approves", { rules = voting("unanimous"), votes = ballots(3) }, {}, { OVERRIDE, PARTIAL } },
  { "unanimous: one is silent", { rules = voting("unanimous"), votes = ballots(2) },
    { FAILED .. "unanimous: 1 participants have not approved, 0 rejects" }, { PARTIAL } },
  { "unanimous: one abstains", { rules = voting("unanimous"), votes = ballots(2, 0, 1) },
    { FAILED .. "unanimous: 1 participants have not approved, 0 rejects" }, { PARTIAL } },
  { "unanimous: one rejects", { rules = voting("unanimous"), votes = ballots(2, 1) },
    { FAILED .. "unanimous: 1 participants have not approved, 1 rejects" }, {} },
  { "unanimous: approval of any proposal counts, and any reject does", { rules = voting("unanimous"),
    votes = { { "APPROVE", "REJECT" }, "APPROVE", "APPROVE" } },
    { FAILED .. "unanimous: 0 participants have not approved, 1 rejects" }, {} },
  { "unanimous: only abstentions are an empty tally", { rules = voting("unanimous"), votes = ballots(0, 0, 3) },
    { EMPTY }, { NO_REJECT } },
  { "weighted: the weights decide", { rules = WEIGHTS, votes = { "APPROVE", "REJECT" } }, {}, { OVERRIDE } },
  { "weighted: the lighter side loses", { rules = WEIGHTS, votes = { "REJECT", "APPROVE" } },
    { FAILED .. "weighted: 1 of 4" }, {} },
  { "weighted: who is not listed has no weight", { rules = WEIGHTS, votes = { false, false, "APPROVE" } }, { EMPTY },
    { NO_REJECT } },
  { "weighted: a reject without weight declines nothing",
    { rules = WEIGHTS, votes = { "APPROVE", false, "REJECT" } }, {}, { OVERRIDE, PARTIAL } },
  { "weighted: only people without weight voted, version 2", { rules = WEIGHTS, version = 2,
    votes = { false, false, "REJECT" } }, {}, { NO_REJECT } },
  { "weighted: a negative electorate, stored, never passes", { rules = voting("weighted", { weights = { p1 = -1 } }),
    votes = { "APPROVE" } }, { FAILED .. "weighted: the electorate has a negative weight" }, { PARTIAL } },
  { "plurality: more approve", { rules = voting("plurality"), votes = ballots(2, 1) }, {}, { OVERRIDE } },
  { "plurality: a tie fails", { rules = voting("plurality"), votes = ballots(1, 1) },
    { FAILED .. "plurality: 1 approve, 1 reject" }, {} },
  { "an unknown algorithm, stored, never passes", { rules = voting("dice"), votes = ballots(3) },
    { FAILED .. "the algorithm 'dice' is unknown" }, { PARTIAL } },
  { "quorum: counts voters, abstentions included", { rules = with(voting("none", { quorum = { value = 2 } }),
    "commitment", QUORUM_FLAG), votes = ballots(1, 0, 1) }, {}, {} },
  { "quorum: too few voters, whatever the polarity", { rules = with(voting("none", { quorum = { value = 2 } }),
    "commitment", QUORUM_FLAG), votes = ballots(1) },
    { QUORUM .. "1 of 3 participants voted, the quorum is 2" },
    { QUORUM .. "1 of 3 participants voted, the quorum is 2" } },
  { "quorum: without the flag it does nothing", { rules = voting("none", { quorum = { value = 2 } }) }, {}, {} },
  { "quorum: percent of the participants", { n = 100, rules = with(voting("none", { quorum = { type = "percentage",
    value = 29 } }), "commitment", QUORUM_FLAG), votes = ballots(29) }, {}, {} },
  { "quorum: less than the percentage", { n = 3, rules = with(voting("none", { quorum = { type = "percentage",
    value = 67 } }), "commitment", QUORUM_FLAG), votes = ballots(2) },
    { QUORUM .. "2 of 3 participants voted, the quorum is 67 percent" },
    { QUORUM .. "2 of 3 participants voted, the quorum is 67 percent" } },
  { "evaluations: none was provided", { rules = { evaluation = { required_before_voting = true } } }, { NO_EVALUATION },
    { NO_EVALUATION } },
  { "evaluations: a review does not qualify", { rules = { evaluation = { required_before_voting = true } },
    evaluations = { { "REVIEW", 1 } } }, { "evaluation.minimum_confidence: " }, { "evaluation.minimum_confidence: " } },
  { "evaluations: confidence below the minimum", { rules = { evaluation = { required_before_voting = true,
    minimum_confidence = 0.8 } }, evaluations = { { "APPROVE", 0.79 }, { "REVIEW", 1 } } },
    { "evaluation.minimum_confidence: no decisive evaluation reaches the confidence 0.80" },
    { "evaluation.minimum_confidence: no decisive evaluation reaches the confidence 0.80" } },
  { "evaluations: the minimum itself is enough", { rules = { evaluation = { required_before_voting = true,
    minimum_confidence = 0.8 } }, evaluations = { { "BLOCK", 0.8 } } }, {}, {} },
  { "evaluations: a minimum alone asks for none", { rules = { evaluation = { minimum_confidence = 0.8 } } }, {}, {} },
  { "veto: too few critical objections", { rules = with(voting("none"), "objection_handling",
    { critical_severity_vetoes = true, veto_threshold = 2 }), objections = { "critical", "high" } }, {}, {} },
  { "veto: not enabled", { rules = {}, objections = { "critical", "critical" } }, {}, {} },
  { "veto: denies both, and every other reason is told as well", { rules = veto("deny"),
    objections = { "critical", "critical" } }, { VETO .. "2 critical objections (threshold 2) by p1, p2 veto",
    NO_EVALUATION, QUORUM, EMPTY }, { VETO, NO_EVALUATION, QUORUM, NO_REJECT } },
  { "veto: hold denies both as an escalation", { rules = veto("hold"), objections = { "critical", "critical" } },
    { VETO .. "2 critical objections (threshold 2) by p1, p2 hold the session for escalation", NO_EVALUATION, QUORUM,
      EMPTY }, { VETO, NO_EVALUATION, QUORUM, NO_REJECT } },
  { "veto: finalised as a decline, it waives everything else", { rules = veto("finalize_decline"),
    objections = { "critical", "critical" } }, { VETO, NO_EVALUATION, QUORUM, EMPTY }, {} },
  { "a schema version from the future", { rules = {}, version = 4 },
    { "policy: schema version 4 is not supported (1 to 3 are)" },
    { "policy: schema version 4 is not supported (1 to 3 are)" } },
  { "a schema version of nothing", { rules = {}, version = 0 }, { "policy: schema version 0 is not supported" },
    { "policy: schema version 0 is not supported" } },
}

describe("a decision under a policy", function()
  local rev

  setup(function() rev = modes.shipped("decision") end)
  teardown(function() rev:close() end)
  after_each(function() rev:drop("s") end)

  local function send(...) modes.send(rev, "s", ...) end

  local function play(setup)
    local everybody = people(setup.n or 3)
    assert(rev:start("s", modes.start({ participants = everybody, initiator = "boss", policy = {
      policy_id = "policy.t.t", mode = "macp.mode.decision.v1", rules = setup.rules,
      schema_version = setup.version or 3 }, policy_version = "policy.t.t" })))
    for _, id in ipairs({ "a", "b" }) do
      send("p1", "Proposal", { proposal_id = id, option = id })
    end
    for i, one in ipairs(setup.evaluations or {}) do
      send(everybody[i], "Evaluation", { proposal_id = "a", recommendation = one[1], confidence = one[2] })
    end
    for i, severity in ipairs(setup.objections or {}) do
      send(everybody[i], "Objection", { proposal_id = "a", severity = severity })
    end
    for i, vote in ipairs(setup.votes or {}) do
      for k, one in ipairs(type(vote) == "table" and vote or { vote or nil }) do
        send(everybody[i], "Vote", { proposal_id = k == 1 and "a" or "b", vote = one })
      end
    end
  end

  local function denials(positive)
    local payload = modes.commitment(rev, { action = positive and "decision.selected" or "decision.declined",
      outcome_positive = positive, policy_version = "policy.t.t" })
    local verdict, refusal = rev:submit("s", "Commitment", "boss", payload, 2, DRY)
    if verdict then return {} end
    assert.equal("POLICY_DENIED", refusal.code)
    local out = {}
    for i, item in ipairs(refusal.details.items) do
      out[i] = item.rule .. ": " .. item.text
      local flat = refusal.details.reasons[i]
      assert.truthy(flat == out[i] or "policy: " .. flat == out[i], flat)
    end
    return out
  end

  local function assert_begins(expected, found)
    assert.equal(#expected, #found, json.encode(found))
    for i, head in ipairs(expected) do
      assert.equal(head, found[i]:sub(1, #head))
    end
  end

  for _, case in ipairs(CASES) do
    it(case[1], function()
      play(case[2])
      assert_begins(case[3], denials(true))
      assert_begins(case[4], denials(false))
    end)
  end
end)
