local fakes = require("spec.support.runtime_fakes")
local policy_registry = require("macp.runtime.policy_registry")

local function policy(changes)
  local fields = { policy_id = "policy.team.strict", mode = "*", rules = {}, schema_version = 1 }
  for key, value in pairs(changes or {}) do fields[key] = value end
  return fields
end

describe("policies", function()
  local registry, modes

  before_each(function() registry, modes = policy_registry.new(), fakes.modes() end)

  it("have a default that every mode may bind", function()
    local found = assert(registry:resolve("", "ext.any.v1"))
    assert.same({ "policy.default", "*", "{}" }, { found.policy_id, found.mode, found.rules_json })
  end)

  it("bind to their own mode only", function()
    assert.is_table(registry:resolve("policy.std.majority", "macp.mode.decision.v1"))
    local _, code = registry:resolve("policy.std.majority", "ext.any.v1")
    assert.equal("INVALID_POLICY_DEFINITION", code)
    _, code = registry:resolve("policy.none", "ext.any.v1")
    assert.equal("UNKNOWN_POLICY_VERSION", code)
  end)

  it("are registered once", function()
    assert.is_true(registry:register(policy(), modes))
    local ok, problems = registry:register(policy(), modes)
    assert.is_nil(ok)
    assert.truthy(problems[1]:find("already registered", 1, true))
  end)

  local BAD = {
    ["policy_id must be a string"] = { policy_id = 7 },
    ["1 to 255 bytes"] = { policy_id = " x " },
    ["policy.std.* is reserved"] = { policy_id = "policy.std.mine" },
    ["already registered"] = { policy_id = "policy.default" },
    ["schema_version must be 1, 2 or 3"] = { schema_version = 4 },
    ["mode is blank"] = { mode = "  " },
    ["rules must be an object"] = { rules = "none" },
    ["description must be a string"] = { description = 1 },
    ["unknown rule"] = { rules = { bad = true } },
  }
  for text, changes in pairs(BAD) do
    it("are refused with: " .. text, function()
      local ok, problems = registry:register(policy(changes), modes)
      assert.is_nil(ok)
      assert.truthy(table.concat(problems, "; "):find(text, 1, true))
    end)
  end

  it("share the memory of equal bindings, and only of equal ones", function()
    registry:register(policy({ rules = { a = 1 } }), modes)
    local own = registry:resolve("policy.team.strict", "m")
    local equal = { policy_id = own.policy_id, rules_json = own.rules_json, schema_version = 1 }
    assert.equal(own, registry:intern(equal))
    local other = { policy_id = own.policy_id, rules_json = '{"a":2}', schema_version = 1 }
    assert.equal(other, registry:intern(other))
  end)
end)
