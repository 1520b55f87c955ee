local utf8 = require("macp.core.utf8")

describe("utf8.is_text", function()
  local good = { "", "abc", "ä", "€", "😀", "a€b😀c", "\244\143\191\191", "\237\159\191", "\239\191\191" }
  for _, text in ipairs(good) do
    it(string.format("accepts %q", text), function() assert.is_true(utf8.is_text(text)) end)
  end

  local bad = {
    { "a NUL", "a\0b" }, { "a lone continuation", "\128" }, { "a cut sequence", "\195" },
    { "an overlong form", "\192\175" },
    { "an overlong three-byte form", "\224\128\175" }, { "a surrogate", "\237\160\128" },
    { "beyond U+10FFFF", "\244\144\128\128" }, { "0xFF", "abc\255" }, { "a broken end", "€\226\130" },
    { "five bytes", "\248\136\128\128\128" },
  }
  for _, case in ipairs(bad) do
    it("refuses " .. case[1], function() assert.is_false(utf8.is_text(case[2])) end)
  end
end)

describe("core.utf8.shorten", function()
  it("keeps what is short and cuts between characters", function()
    assert.equal("abc", utf8.shorten("abc", 3))
    assert.equal("ab...", utf8.shorten("abc", 2))
    assert.equal("a...", utf8.shorten("aé", 2))
    assert.equal("...", utf8.shorten("€€", 2))
    assert.equal("€...", utf8.shorten("€€", 5))
  end)
end)

describe("core.json.quoted", function()
  it("shows a text shortened and in one line", function()
    local json = require("macp.core.json")
    assert.equal('"a\\nb"', json.quoted("a\nb", 10))
    assert.equal('"\\u007f"', json.quoted("\127", 10))
    assert.equal('"abc..."', json.quoted("abcdef", 3))
  end)
end)
