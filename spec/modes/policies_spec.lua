-- Policies that meet all shipped modes: what builders of clients write, and policies for every mode.

local registry = require("macp.modes.registry")

describe("a policy among the shipped modes", function()
  local modes

  setup(function()
    modes = registry.new({ depth = "off" })
    assert(modes:load_all())
  end)
  teardown(function() modes:close() end)

  local COMMITMENT = { authority = "initiator_only", designated_roles = {}, require_vote_quorum = false }

  it("is accepted as the builders of clients write it", function()
    for mode, rules in pairs({
      proposal = { acceptance = { criterion = "all_parties" }, counter_proposal = { max_rounds = 0 },
        rejection = { terminal_on_any_reject = false } },
      task = { assignment = { allow_reassignment_on_reject = false }, completion = { require_output = false } },
      handoff = { acceptance = { implicit_accept_timeout_ms = 0 } },
      quorum = { threshold = { type = "n_of_m", value = 0 },
        abstention = { counts_toward_quorum = false, interpretation = "neutral" } },
    }) do
      rules.commitment = COMMITMENT
      local ok, texts = modes:check_policy("macp.mode." .. mode .. ".v1", rules, 1)
      assert.is_true(ok, mode .. ": " .. table.concat(texts, "; "))
    end
  end)

  it("for every mode may fill a group that two modes share", function()
    local ok, texts = modes:check_policy("*", { acceptance = { criterion = "counterparty",
      implicit_accept_timeout_ms = 1000 }, threshold = { type = "percentage", value = 60 } }, 3)
    assert.is_true(ok, table.concat(texts, "; "))
    ok, texts = modes:check_policy("*", { acceptance = { criterion = "nobody" } }, 3)
    assert.is_nil(ok)
    assert.truthy(texts[1]:find("acceptance.criterion", 1, true), texts[1])
    ok, texts = modes:check_policy("*", { threshold = { type = "weighted", value = 1 } }, 3)
    assert.is_nil(ok)
    assert.truthy(texts[1]:find("threshold.type", 1, true), texts[1])
    assert.is_nil((modes:check_policy("macp.mode.task.v1", { acceptance = { criterion = "initiator" } }, 3)))
  end)
end)
