-- Registration rules of policies for the decision mode (RFC-MACP-0012).

local json = require("host.json")

local revision = require("macp.modes.revision")
local source = require("macp.modes.source")

local rev

local function check(rules, version)
  local ok, texts = rev:check_policy(rules, version or 3)
  return ok, table.concat(texts, "\n")
end

local REFUSED = {
  { { voting = { algorithm = "majorty" } },
    'rules.voting.algorithm: expected one of none, majority, supermajority, unanimous, weighted, plurality, '
      .. 'got "majorty" (did you mean "majority"?)' },
  { { voting = { algorithm = 7 } }, "weighted, plurality, got 7" },
  { { voting = { threshold = 0 } }, "rules.voting.threshold: expected a number above 0 and at most 1, got 0" },
  { { voting = { threshold = 1.01 } }, "expected a number above 0 and at most 1, got 1.01" },
  { { voting = { threshold = "x" } }, 'expected a number above 0 and at most 1, got "x"' },
  { { voting = { threshold = json.null } }, "expected a number above 0 and at most 1, got null" },
  { { voting = { algorithm = "majority", threshold = 0.4 } },
    'rules.voting.threshold: expected a number of at least 0.5 while rules.voting.algorithm is "majority", got 0.4' },
  { { voting = { algorithm = "supermajority" } },
    'rules.voting.threshold: is required while rules.voting.algorithm is "supermajority"' },
  { { voting = { algorithm = "supermajority", threshold = 0.5 } },
    'expected a number above 0.5 while rules.voting.algorithm is "supermajority", got 0.5' },
  { { voting = { algorithm = "weighted" } },
    'rules.voting.weights: is required while rules.voting.algorithm is "weighted"' },
  { { voting = { algorithm = "weighted", weights = {} } },
    "rules.voting.weights: expected at least one entry, got none" },
  { { voting = { algorithm = "majority", weights = {} } },
    "rules.voting.weights: expected at least one entry, got none" },
  { { voting = { algorithm = "weighted", weights = { ann = 0, bob = 1 } } },
    'rules.voting.weights["ann"]: expected a number above 0, got 0' },
  { { voting = { algorithm = "weighted", weights = { ann = "1" } } },
    'rules.voting.weights["ann"]: expected a number above 0, got "1"' },
  { { voting = { weights = json.array({}) } },
    "rules.voting.weights: expected an object of numbers above 0, got an array" },
  { { voting = { quorum = { type = "percentage", value = 101 } } },
    "rules.voting.quorum.value: expected a number of at most 100 "
      .. 'while rules.voting.quorum.type is "percentage", got 101' },
  { { voting = { quorum = { type = "share" } } },
    'rules.voting.quorum.type: expected one of count, percentage, got "share"' },
  { { voting = { quorum = { value = -1 } } }, "rules.voting.quorum.value: expected a number of at least 0, got -1" },
  { { voting = { quorum = { typ = "count" } } }, 'rules.voting.quorum.typ: unknown rule (did you mean "type"?)' },
  { { voting = 5 }, "rules.voting: expected an object, got 5" },
  { { voting = json.array({}) }, "rules.voting: expected an object, got an array" },
  { { votng = {} }, 'rules.votng: unknown rule (did you mean "voting"?)' },
  { { ["voting.threshold"] = 0.5 }, "rules.voting.threshold: unknown rule" },
  { { ["voting.quorum"] = {} }, "rules.voting.quorum: unknown rule" },
  { { objection_handling = { veto_threshold = 0 } },
    "rules.objection_handling.veto_threshold: expected a whole number of at least 1, got 0" },
  { { objection_handling = { veto_threshold = 1.5 } }, "expected a whole number of at least 1, got 1.5" },
  { { objection_handling = { critical_severity_vetoes = "yes" } }, 'expected true or false, got "yes"' },
  { { objection_handling = { critical_objection_action = "ignore" } }, "expected one of deny, finalize_decline, hold" },
  { { evaluation = { minimum_confidence = 2 } }, "expected a number between 0 and 1, got 2" },
  { { commitment = { authority = "anybody" } }, "expected one of initiator_only, any_participant, designated_role" },
  { { commitment = { authority = "designated_role" } },
    'rules.commitment.designated_roles: is required while rules.commitment.authority is "designated_role"' },
  { { commitment = { authority = "designated_role", designated_roles = json.array({}) } },
    "expected an array of strings with at least one entry, got none" },
  { { commitment = { designated_roles = json.array({ "ann", 1, " " }) } },
    "rules.commitment.designated_roles[2]: expected a string that is not blank, got 1" },
  { { commitment = { designated_roles = { ann = true } } },
    "rules.commitment.designated_roles: expected an array of strings with at least one entry, got an object" },
  { { audit = { level = "info" } }, "rules.audit: unknown rule" },
}

describe("policies of the decision mode", function()
  setup(function() rev = assert(revision.build(assert(source.read("modes/decision")),
    { root = "modes/decision/" })) end)
  teardown(function() rev:close() end)

  for _, case in ipairs(REFUSED) do
    it("are refused: " .. case[2], function()
      local ok, text = check(case[1])
      assert.is_nil(ok)
      assert.truthy(text:find(case[2], 1, true), text)
    end)
  end

  it("are accepted: the defaults, spelled out, and the standard profiles", function()
    assert.is_true((check({})))
    assert.is_true((check({ voting = { algorithm = "none", quorum = { type = "count", value = 0 } },
      objection_handling = { critical_severity_vetoes = false, veto_threshold = 1 },
      evaluation = { required_before_voting = false, minimum_confidence = 0 },
      commitment = { authority = "initiator_only", designated_roles = {}, require_vote_quorum = false } }, 1)))
    for _, voting in ipairs({ { algorithm = "majority", threshold = 0.5, quorum = { type = "count", value = 1 } },
      { algorithm = "supermajority", threshold = 0.6666666666666666, quorum = { type = "count", value = 2 } },
      { algorithm = "unanimous", quorum = { type = "count", value = 1 } } }) do
      local ok, text = check({ voting = voting, commitment = { require_vote_quorum = true } }, 1)
      assert.is_true(ok)
      assert.equal("", text)
    end
  end)

  it("may carry annotations, but not among identities", function()
    assert.is_true((check({ _note = "x", ["$schema"] = "y", voting = { _why = "z" } })))
    assert.is_nil((check({ voting = { algorithm = "weighted", weights = { _note = "x" } } })))
  end)

  it("are warned of rules that do nothing", function()
    local _, text = check({ voting = { quorum = { value = 2 }, weights = { ann = 1 } },
      evaluation = { minimum_confidence = 0.5 }, commitment = { authority = "any_participant" }, _voting = {} }, 1)
    for _, part in ipairs({
      "rules.voting.quorum.value: has no effect unless rules.commitment.require_vote_quorum is true",
      "rules.voting.weights: has no effect", "rules.evaluation.minimum_confidence: has no effect",
      "lets every participant cancel", "rules._voting: is an annotation" }) do
      assert.truthy(text:find(part, 1, true), text)
    end
    local _, open = check({ voting = { algorithm = "majority" } }, 2)
    assert.truthy(open:find("voting.algorithm: does not bind an empty tally", 1, true), open)
    for version, rules in pairs({ [3] = { voting = { algorithm = "majority" } },
      [1] = { voting = { algorithm = "none" } },
      [2] = { voting = { algorithm = "majority" }, commitment = { require_vote_quorum = true } } }) do
      local _, none = check(rules, version)
      assert.equal("", none)
    end
    local _, since = check({ commitment = { allow_decline_over_approval = true } }, 1)
    assert.truthy(since:find("schema version 2", 1, true))
  end)

  it("are refused with every problem at once, and for unknown schema versions", function()
    local ok, text = check({ voting = { algorithm = "x", threshold = 9 }, nope = 1 }, 4)
    assert.is_nil(ok)
    for _, part in ipairs({ "schema_version: expected 1 to 3, got 4", "voting.algorithm", "voting.threshold",
      "nope" }) do
      assert.truthy(text:find(part, 1, true), text)
    end
    assert.is_nil((check({ 1, 2 })))
    assert.is_nil((check({}, 0)))
  end)
end)

describe("a mode without declared rules", function()
  it("accepts any object but checks the commitment group", function()
    local modes = require("spec.support.modes")
    local open = modes.build(modes.source())
    assert.is_true((open:check_policy({ anything = { goes = { 1 } }, commitment = { require_vote_quorum = false } },
      1)))
    assert.is_nil((open:check_policy({ commitment = { authority = "x" } }, 1)))
    assert.is_nil((open:check_policy({ commitment = { require_vote_quorum = true } }, 1)))
    open:close()
  end)
end)
