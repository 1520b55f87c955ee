local ids = require("macp.core.ids")

describe("ids", function()
  it("makes different well-formed ids", function()
    for _, make in ipairs({ ids.uuid4, ids.uuid7 }) do
      local first, second = make(), make()
      assert.is_true(ids.is_uuid(first))
      assert.are_not.equal(first, second)
    end
  end)

  local uuids = {
    { "00000000-0000-0000-0000-000000000000", true }, { "7C1E4B1A-0000-1000-8000-00000000ABCD", true },
    { "7c1e4b1a00001000800000000000abcd", false }, { "7c1e4b1a-0000-1000-8000-00000000abc", false },
    { "7c1e4b1a-0000-1000-8000-00000000abcg", false }, { "7c1e4b1a-0000-1000-8000-00000000abcd\n", false },
    { "batch", false }, { "", false },
  }
  for _, case in ipairs(uuids) do
    it(string.format("is_uuid(%q) is %s", case[1], tostring(case[2])), function()
      assert.equal(case[2], ids.is_uuid(case[1]))
    end)
  end

  local sessions = {
    { "7c1e4b1a-0000-4000-8000-00000000abcd", true }, { "7c1e4b1a-0000-7000-b000-00000000abcd", true },
    { "7c1e4b1a-0000-1000-8000-00000000abcd", false }, { "7C1E4B1A-0000-4000-8000-00000000abcd", false },
    { "7c1e4b1a-0000-4000-7000-00000000abcd", false }, { ("a"):rep(22), true }, { ("a"):rep(21), false },
    { ("a"):rep(255), true }, { ("a"):rep(256), false }, { ("a"):rep(22) .. "=", false }, { 7, false },
  }
  for i, case in ipairs(sessions) do
    it("is_session_id, case " .. i, function() assert.equal(case[2], ids.is_session_id(case[1])) end)
  end

  local requests = {
    { "abc-1.2_3:4", true }, { ("x"):rep(128), true }, { ("x"):rep(129), false }, { "", false }, { "a b", false },
    { "a\r\nx", false }, { "é", false },
  }
  for i, case in ipairs(requests) do
    it("is_request_id, case " .. i, function() assert.equal(case[2], ids.is_request_id(case[1])) end)
  end
end)
