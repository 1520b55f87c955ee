local semver = require("macp.core.semver")

describe("semver", function()
  it("orders versions as semver.org does", function()
    local ascending = {
      "0.9.10", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11",
      "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2.0", "1.10.0", "2.0.0",
    }
    for i = 1, #ascending do
      for k = 1, #ascending do
        local expected = i == k and 0 or (i < k and -1 or 1)
        assert.equal(expected, semver.compare(semver.parse(ascending[i]), semver.parse(ascending[k])))
      end
    end
  end)

  it("ignores build metadata when ordering", function()
    assert.equal(0, semver.compare(semver.parse("1.0.0+a"), semver.parse("1.0.0+b")))
    assert.same({ "rc-1" }, semver.parse("1.0.0-rc-1+x.y").pre)
  end)

  local refused = {
    "1", "1.0", "1.0.0.0", "01.0.0", "1.0.0-", "1.0.0-01", "1.0.0-a..b",
    "v1.0.0", "", "1.0.0+", "1.-1.0",
  }
  for _, text in ipairs(refused) do
    it(string.format("refuses %q", text), function() assert.is_nil(semver.parse(text)) end)
  end
end)
