-- What every mode's rules have in common, whatever they are.

local json = require("host.json")

local policy = require("macp.modes.inside.policy")
local policy_rules = require("macp.modes.policy_rules")

local RULES = policy.compile({
  { path = "bar.type", type = "string", default = "n_of_m", one_of = { "n_of_m", "percentage" },
    alias = { count = "n_of_m" } },
  { path = "bar.value", type = "integer", over = 0, unset = 0,
    cases = { { "bar.type", "percentage", max = 100 } } },
})

local function check(rules, opts, compiled)
  local problems, warnings = policy_rules.check(compiled or RULES, rules, 3, opts)
  local function texts(list)
    for i, item in ipairs(list) do list[i] = item.rule .. ": " .. item.text end
    return list
  end
  return texts(problems), texts(warnings)
end

describe("rules of a policy", function()
  it("may use old names, with a warning, and mean the new ones", function()
    local problems, warnings = check({ bar = { type = "count", value = 2 } })
    assert.same({}, problems)
    assert.same({ 'rules.bar.type: "count" is an old name of "n_of_m"' }, warnings)
    assert.equal("n_of_m", policy.resolve(RULES, { bar = { type = "count" } }).bar.type)
  end)

  it("may spell out a value that means absent, unless it is strict", function()
    local problems, warnings = check({ bar = { value = 0 } })
    assert.same({}, problems)
    assert.same({ "rules.bar.value: 0 is read as if the rule were absent; leave it out" }, warnings)
    assert.is_nil(policy.resolve(RULES, { bar = { value = 0 } }).bar.value)
    assert.same({ "rules.bar.value: expected a whole number above 0, got 0" }, (check({ bar = { value = 0 } },
      { strict = true })))
  end)

  it("tolerate the decision mode's commitment rules while they change nothing, unless it is strict", function()
    for _, name in ipairs({ "require_vote_quorum", "allow_decline_over_approval" }) do
      local path = "rules.commitment." .. name
      local problems, warnings = check({ commitment = { [name] = false } })
      assert.same({}, problems)
      assert.same({ path .. ": belongs to another mode and has no effect here" }, warnings)
      assert.same({ path .. ": belongs to another mode; only its default false is tolerated here" },
        (check({ commitment = { [name] = true } })))
      assert.same({ path .. ": belongs to another mode" }, (check({ commitment = { [name] = false } },
        { strict = true })))
    end
  end)

  it("warn of annotations that look like rules, at every level", function()
    local _, warnings = check({ _bar = {}, ["$note"] = 1, bar = { _value = 3, value = 3 } })
    assert.same({ "rules._bar: is an annotation and has no effect, although its name resembles a rule",
      "rules.bar._value: is an annotation and has no effect, although its name resembles a rule" }, warnings)
  end)

  it("are told of at most 32 problems, and how many more there are", function()
    local rules = {}
    for i = 1, 100 do rules["k" .. i] = i end
    local problems = check(rules)
    assert.equal(33, #problems)
    assert.equal("rules: 68 more problems", problems[33])
  end)

  it("cost no more than a look when they are nothing but mistakes", function()
    local rules = { bar = {} }
    for i = 1, 5000 do rules.bar[("typ"):rep(20) .. i] = i end
    local began = os.clock()
    check(rules)
    assert.is_true(os.clock() - began < 0.5)
  end)

  it("show long values shortened, and never half a character", function()
    local problems = check({ bar = { type = ("é"):rep(100) } })
    assert.truthy(problems[1]:find("got \"" .. ("é"):rep(24) .. "...\"", 1, true), problems[1])
    assert.truthy(json.decode(json.encode(problems[1])))
  end)

  it("are an object", function()
    assert.same({ "rules: expected an object, got an array" }, (check(json.array({}))))
    assert.same({ 'rules: expected an object, got "x"' }, (check("x")))
  end)
end)
