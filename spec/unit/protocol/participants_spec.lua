local participants = require("macp.protocol.participants")

describe("declared participants", function()
  it("accepts distinct names and an empty list", function()
    assert.is_true(participants.check({ "ann", "bob" }))
    assert.is_true(participants.check({}))
  end)

  for reason, list in pairs({
    blank = { "ann", "  " }, repeats = { "ann", "ann" }, ["white space"] = { " ann" },
  }) do
    it("refuses a list that is " .. reason, function()
      local ok, text = participants.check(list)
      assert.is_nil(ok)
      assert.truthy(text:find(reason, 1, true))
    end)
  end

  it("refuses more than a thousand", function()
    local list = {}
    for i = 1, 1001 do list[i] = "p" .. i end
    local ok, text = participants.check(list)
    assert.is_nil(ok)
    assert.truthy(text:find("1001", 1, true))
    list[1001] = nil
    assert.is_true(participants.check(list))
  end)
end)

describe("commitment authority", function()
  local function is_participant(sender) return sender == "ann" end
  local function has(authority, roles, sender)
    local rules = { commitment = { authority = authority, designated_roles = roles } }
    return participants.has_authority(rules, "boss", is_participant, sender)
  end

  it("belongs to the initiator alone by default and for unknown values", function()
    assert.is_true(participants.has_authority({}, "boss", is_participant, "boss"))
    assert.is_false(participants.has_authority({}, "boss", is_participant, "ann"))
    assert.is_false(has("everyone", nil, "ann"))
  end)

  it("extends to participants with any_participant", function()
    assert.is_true(has("any_participant", nil, "ann"))
    assert.is_true(has("any_participant", nil, "boss"))
    assert.is_false(has("any_participant", nil, "eve"))
  end)

  it("is exactly the listed roles with designated_role", function()
    assert.is_true(has("designated_role", { "carl" }, "carl"))
    assert.is_false(has("designated_role", { "carl" }, "boss"))
  end)
end)
