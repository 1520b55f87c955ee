local query = require("macp.http.query")

describe("query.parse", function()
  local cases = {
    { nil, {} }, { "", {} }, { "a=1&b=2", { a = "1", b = "2" } }, { "a=1&a=2", { a = "2" } },
    { "a", { a = "" } }, { "=x&b=", { b = "" } }, { "q=a+b%20c%26d", { q = "a b c&d" } },
    { "a%20b=c", { ["a b"] = "c" } }, { "a=b=c", { a = "b=c" } }, { "a=%zz", { a = "%zz" } },
    { "u=%C3%A4", { u = "ä" } },
  }
  for _, case in ipairs(cases) do
    it("reads " .. tostring(case[1]), function() assert.same(case[2], query.parse(case[1])) end)
  end

  for _, text in ipairs({ "a=%FF", "a=%00", "%ff=1", "a=\192\128" }) do
    it(string.format("refuses %q", text), function()
      local ok, err = pcall(query.parse, text)
      assert.is_false(ok)
      assert.equal("VALIDATION_ERROR", err.code)
    end)
  end

  it("reads at most 100 pairs", function()
    local parts = {}
    for i = 1, 1000 do parts[i] = "k" .. i .. "=1" end
    local count = 0
    for _ in pairs(query.parse(table.concat(parts, "&"))) do count = count + 1 end
    assert.equal(100, count)
  end)
end)
