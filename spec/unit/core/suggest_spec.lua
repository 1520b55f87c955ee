local suggest = require("macp.core.suggest")

describe("suggest.closest", function()
  local words = { "serve", "migrate", "config", "modes", "policyVersion" }
  local cases = {
    { "sevre", "serve" }, { "migrte", "migrate" }, { "Config", "config" }, { "mode", "modes" },
    { "policy_version", "policyVersion" }, { "xyz", nil }, { "", nil }, { string.rep("a", 5000), nil },
  }
  for _, case in ipairs(cases) do
    it(string.format("finds %s for %s", tostring(case[2]), case[1]:sub(1, 20)), function()
      assert.equal(case[2], suggest.closest(case[1], words))
    end)
  end

  it("gives an empty hint when nothing is close", function()
    assert.equal("", suggest.hint("zzz", words))
    assert.equal(" (did you mean `serve`?)", suggest.hint("serv", words))
  end)
end)
