local json = require("macp.core.json")

local descriptor = require("macp.runtime.policies.descriptor")

local function message(changes)
  local fields = { policy_id = "policy.a.b", mode = "*", description = "", rules = "", schema_version = 1,
    registered_at_unix_ms = 77 }
  for key, value in pairs(changes or {}) do fields[key] = value end
  return fields
end

describe("a policy off the wire", function()
  it("has no rules when the text is empty", function()
    local policy = assert(descriptor.of_message(message()))
    assert.same({}, policy.rules)
    assert.equal("{}", policy.rules_json)
    assert.equal(0, policy.registered_at_ms)
  end)

  it("keeps its rules as text with sorted keys, annotations and all", function()
    local policy = assert(descriptor.of_message(message({ rules = ' {"b": [], "a": {"x": 0.1}, "_n": null} ' })))
    assert.equal('{"_n":null,"a":{"x":0.1},"b":[]}', policy.rules_json)
    assert.equal(policy.rules_json, descriptor.to_message(policy).rules)
  end)

  local long = ("x"):rep(5000)
  local REFUSED = {
    -- W33: text that does not parse once became {}, which turned all governance off.
    { "W33: ", { rules = '{"voting":' }, "rules: expected a JSON object: line 1, column 11: the text ends too early" },
    { "W33: ", { rules = "  " }, "rules: expected a JSON object: line 1, column 3: the text ends too early" },
    { "W33: ", { rules = '{"voting":{"algorithm":"majority"},\n "voting":{}}' },
      "rules: expected a JSON object: line 2, column 2: this member is there twice" },
    { "W33: ", { rules = "[]" }, "rules: expected a JSON object, got an array" },
    { "W33: ", { rules = "null" }, "rules: expected a JSON object, got null" },
    { "W33: ", { rules = '"{}"' }, 'rules: expected a JSON object, got "{}"' },
    { "W33: ", { rules = '{"a":1}{}' },
      "rules: expected a JSON object: line 1, column 8: nothing may follow the value" },
    { "", { rules = ('{"a":'):rep(33) .. "1" .. ("}"):rep(33) },
      "rules: expected a JSON object: line 1, column 161: nested too deeply" },
    { "", { rules = '{"a":"' .. ("x"):rep(65536) .. '"}' }, "rules: expected at most 65536 bytes, got 65544" },
    { "", { policy_id = "" }, "policy_id: expected 1 to 255 bytes without control characters or white space around "
      .. 'them, got ""' },
    { "", { policy_id = " x" },
      'policy_id: expected 1 to 255 bytes without control characters or white space around them, got " x"' },
    { "", { policy_id = "a\nb" }, "policy_id: expected 1 to 255 bytes without control characters or white space around "
      .. 'them, got "a\\nb"' },
    { "", { policy_id = ("x"):rep(256) }, "policy_id: expected 1 to 255 bytes without control characters or white "
      .. "space around them, got 256 bytes" },
    { "", { mode = " " }, 'mode: expected a mode id such as macp.mode.decision.v1, or *, got " "' },
    { "", { mode = "a/b" }, 'mode: expected a mode id such as macp.mode.decision.v1, or *, got "a/b"' },
    { "", { mode = long }, "mode: expected a mode id such as macp.mode.decision.v1, or *, got 5000 bytes" },
    { "", { schema_version = 0 }, "schema_version: expected 1 to 3, got 0" },
    { "", { schema_version = 4 }, "schema_version: expected 1 to 3, got 4" },
    { "", { description = long }, "description: expected at most 4096 bytes, got 5000" },
  }
  for _, case in ipairs(REFUSED) do
    it(case[1] .. "is refused with: " .. case[3], function()
      local policy, problems = descriptor.of_message(message(case[2]))
      assert.is_nil(policy)
      assert.same({ case[3] }, problems)
    end)
  end

  it("is told everything at once", function()
    local _, problems = descriptor.of_message(message({ policy_id = "", mode = "", rules = "{", schema_version = 9 }))
    assert.equal(4, #problems)
  end)

  it("is warned when its id is unusual", function()
    local function warnings(id)
      return descriptor.warnings(assert(descriptor.of_message(message({ policy_id = id }))))
    end
    assert.same({}, warnings("policy.team.strict"))
    for _, id in ipairs({ "strict", "policy.majority", "policy..x" }) do
      assert.same({ "policy_id: ids are usually policy.<namespace>.<name>" }, warnings(id))
    end
  end)
end)

describe("a policy in a file", function()
  local FINE = { policy_id = "policy.a.b", mode = "*", rules = json.object({}), schema_version = 2 }

  local function parse(changes)
    local fields = {}
    for key, value in pairs(FINE) do fields[key] = value end
    for key, value in pairs(changes or {}) do fields[key] = value ~= "absent" and value or nil end
    return descriptor.of_json(json.encode(fields))
  end

  it("needs no description and may carry annotations", function()
    assert.equal("", assert(parse()).description)
    assert.is_table(parse({ _note = "x", ["$schema"] = "y", description = "what it is for" }))
  end)

  local REFUSED = {
    { { policy_id = "absent" }, "policy_id: is required" },
    { { rules = "absent" }, "rules: is required" },
    { { schema_version = "absent", shema_version = 1 },
      "shema_version: unknown member (did you mean `schema_version`?)" },
    { { ["a b"] = 1 }, '"a b": unknown member' },
    { { rules = "{}" }, 'rules: expected an object, got "{}"' },
    { { rules = json.array({}) }, "rules: expected an object, got an array" },
    { { schema_version = "1" }, 'schema_version: expected a number, got "1"' },
    { { schema_version = 1.5 }, "schema_version: expected 1 to 3, got 1.5" },
    { { description = 1 }, "description: expected a string, got 1" },
    { { policy_id = json.null }, "policy_id: expected a string, got null" },
  }
  for _, case in ipairs(REFUSED) do
    it("is refused with: " .. case[2], function()
      local policy, problems = parse(case[1])
      assert.is_nil(policy)
      assert.equal(case[2], problems[1])
    end)
  end

  it("is one JSON object, and what is wrong with the text has a place", function()
    assert.same({ "expected one JSON object, got an array" }, select(2, descriptor.of_json("[]")))
    assert.same({ "line 2, column 1: a member name in quotes is expected" },
      select(2, descriptor.of_json("{\n,")))
  end)
end)
