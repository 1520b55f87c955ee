-- The policies that are always there: the default one and the standard profiles of the protocol (RFC-MACP-0012).

local DECISION = "macp.mode.decision.v1"

local M = { DEFAULT_ID = "policy.default" }

local function profile(name, description, voting)
  return {
    policy_id = "policy.std." .. name, mode = DECISION, description = description, schema_version = 1,
    rules = { voting = voting, commitment = { require_vote_quorum = true } },
  }
end

M.list = {
  {
    policy_id = M.DEFAULT_ID, mode = "*", schema_version = 1, rules = {},
    description = "The rules of the mode apply without further constraint.",
  },
  profile("majority", "At least half of the decisive votes approve, at least one voter.",
    { algorithm = "majority", threshold = 0.5, quorum = { type = "count", value = 1 } }),
  -- The literal is the double closest to two thirds: 2 of 3 and 67 of 100 pass, 66 of 100 do not.
  profile("supermajority", "Two thirds of the decisive votes approve, at least two voters.",
    { algorithm = "supermajority", threshold = 0.6666666666666666, quorum = { type = "count", value = 2 } }),
  profile("unanimous", "Every participant approves and nobody rejects.",
    { algorithm = "unanimous", quorum = { type = "count", value = 1 } }),
}

return M
