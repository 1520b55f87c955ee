-- Regular expressions without backtracking: what they match, what is refused, and that they stay linear.


local regex = require("macp.core.regex")

local function replaced(expression, text)
  return (assert(regex.new(type(expression) == "table" and expression or { expression })):replace(text, "#"))
end

describe("an expression", function()
  for _, case in ipairs({
    { "abc", "xabcabx", "x#abx" }, { "a|bc", "abcd", "##d" }, { "a+", "baab", "b#b" }, { "ab*", "aabbb", "##" },
    { "a{2}", "aaaaa", "##a" }, { "a{2,3}", "aaaaa", "##" }, { "a{2,}", "aaaaa b", "# b" }, { "ab?c", "ac abc", "# #" },
    { "a.c", "abc a\nc aéc", "# a\nc #" }, { "[a-c]+", "xabcx", "x#x" }, { "[^a-c]+", "abéxyc", "ab#c" },
    { "\\d{3}-\\d{2}", "in 123-45 and 12-34", "in # and 12-34" }, { "\\bcat\\b", "cat concat cat.", "# concat #." },
    { "^a", "aa", "#a" }, { "a$", "aa", "a#" }, { "\\Bat", "at cat", "at c#" }, { "(?i)key", "KEY Key k", "# # k" },
    { "(?:ab)+c", "ababc", "#" }, { "[\\w.]+@\\w+", "to me.you@home now", "to # now" }, { "é+", "aééb", "a#b" },
    { "[é]", "aéb", "a#b" }, { "\\.", "a.b", "a#b" }, { "[\\]]", "a]b", "a#b" }, { "a\\x2db", "a-b", "#" },
    { "a+?", "aaa", "#" }, { "\\D+", "12ab34", "12#34" }, { { "foo", "bar" }, "foobarbaz", "##baz" },
    { "sk-[A-Za-z0-9]{4,}", "x sk-abc sk-abcd1", "x sk-abc #" },
  }) do
    it(table.concat({ type(case[1]) == "table" and "of several" or case[1], "in", case[2] }, " "), function()
      assert.equal(case[3], replaced(case[1], case[2]))
    end)
  end

  for expression, reason in pairs({
    ["a("] = ") is missing at position 3", ["a)"] = "a ) too many at position 2", ["[a"] = "] is missing at position 3",
    ["*a"] = "there is nothing to repeat at position 1", ["a{3,2}"] = "a repetition runs backwards at position 7",
    ["a*"] = "the expression also matches where there is nothing", ["(?=a)b"] =
      "this kind of group is not supported at position 3", ["\\1"] = "\\1 is not known at position 3",
    ["a{1001}"] = "more than 1000 repetitions at position 8", ["(a{100}){100}"] = "the expression is too large",
    ["[z-a]"] = "a range runs backwards at position 5", ["\\"] = "a backslash ends the expression at position 2",
    ["\128"] = "the expression is not UTF-8 at position 1",
  }) do
    it("is refused: " .. expression:gsub("[^ -~]", "?"), function()
      local compiled, why = regex.new({ expression })
      assert.is_nil(compiled)
      assert.truthy(why:find(reason, 1, true), why)
    end)
  end

  it("takes linear time where backtracking takes for ever", function()
    local evil = assert(regex.new({ "(a|aa)+$", "(a+)+b", "a*a*a*a*c" }))
    local text = ("a"):rep(100000) .. "!"
    local began = os.clock()
    assert.equal(text, (evil:replace(text, "#")))
    assert.is_true(os.clock() - began < 3)
  end)

  it("gives up rather than taking quadratic time", function()
    local greedy = assert(regex.new({ "a", "a[a-y]*z" }))
    assert.is_nil((greedy:replace(("a"):rep(200000), "#")))
  end)
end)
