-- Registration rules of policies for the decision mode (policy.md 4 and 5.1).

local revision = require("macp.modes.revision")
local source = require("macp.modes.source")

local rev

local function check(rules, version)
  local ok, texts = rev:check_policy(rules, version or 3)
  return ok, table.concat(texts, "\n")
end

local REFUSED = {
  { { voting = { algorithm = "majorty" } }, "voting.algorithm: must be one of none, majority" },
  { { voting = { algorithm = "majorty" } }, "(did you mean 'majority'?)" },
  { { voting = { threshold = 0 } }, "voting.threshold: must be above 0" },
  { { voting = { threshold = 1.01 } }, "voting.threshold: must be at most 1" },
  { { voting = { threshold = "0.5" } }, "voting.threshold: must be a number, not '0.5'" },
  { { voting = { algorithm = "majority", threshold = 0.4 } },
    "must be at least 0.5 when voting.algorithm is 'majority'" },
  { { voting = { algorithm = "supermajority" } },
    "voting.threshold: is required when voting.algorithm is 'supermajority'" },
  { { voting = { algorithm = "supermajority", threshold = 0.5 } }, "must be above 0.5" },
  { { voting = { algorithm = "weighted" } }, "voting.weights: is required when voting.algorithm is 'weighted'" },
  { { voting = { algorithm = "weighted", weights = {} } }, "must not be empty" },
  { { voting = { algorithm = "weighted", weights = { ann = 0 } } }, "'ann' must be above 0" },
  { { voting = { algorithm = "weighted", weights = { ann = "1" } } }, "must be an object of numbers" },
  { { voting = { quorum = { type = "percentage", value = 101 } } },
    "at most 100 when voting.quorum.type is 'percentage'" },
  { { voting = { quorum = { type = "share" } } }, "must be one of count, percentage" },
  { { voting = { quorum = { value = -1 } } }, "at least 0" },
  { { voting = { quorum = { typ = "count" } } }, "voting.quorum.typ: unknown rule (did you mean 'type'?)" },
  { { voting = 5 }, "voting: must be an object" },
  { { votng = {} }, "votng: unknown rule (did you mean 'voting'?)" },
  { { objection_handling = { veto_threshold = 0 } }, "at least 1" },
  { { objection_handling = { veto_threshold = 1.5 } }, "a whole number" },
  { { objection_handling = { critical_severity_vetoes = "yes" } }, "true or false" },
  { { objection_handling = { critical_objection_action = "ignore" } }, "must be one of deny" },
  { { evaluation = { minimum_confidence = 2 } }, "at most 1" },
  { { commitment = { authority = "anybody" } }, "must be one of initiator_only" },
  { { commitment = { authority = "designated_role" } }, "commitment.designated_roles: is required" },
  { { commitment = { authority = "designated_role", designated_roles = {} } }, "must not be empty" },
  { { commitment = { designated_roles = { 1 } } }, "an array of strings" },
  { { audit = { level = "info" } }, "audit: unknown rule" },
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
    for _, part in ipairs({ "voting.quorum.value: has no effect unless commitment.require_vote_quorum",
      "voting.weights: has no effect", "evaluation.minimum_confidence: has no effect", "lets every participant cancel",
      "_voting: is an annotation" }) do
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
    for _, part in ipairs({ "schema_version: must be 1 to 3, not 4", "voting.algorithm", "voting.threshold",
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
