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
