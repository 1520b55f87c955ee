local scanner = require("macp.modes.scanner")

local SOURCE = [==[
-- a comment with return {
local rule = { "text", function(s) if s.x then return { y = 1 } end return s end }
local messages = {
  Later = { from = "participant" },
}
--[[ long
comment ]]
return {
  id = "ext.x.v1",
  ["odd key"] = 3,
  nested = {
    list = {
      "first", { "second", function(a, b)
        for i = 1, 2 do a[i] = { b = b } end
        return a
      end },
      rule,
    },
    payload = [[
      string a = 1;
      string b = 2;
    ]],
  },
  called = make { 1, 2 }, after = 1,
  messages = messages,
}
]==]

describe("the table scanner", function()
  local map = scanner.scan(SOURCE)

  it("maps keys of the returned constructor to their lines", function()
    assert.equal(9, map:line("id"))
    assert.equal(11, map:line("nested"))
    assert.equal(12, map:line("nested.list"))
    assert.equal(13, map:line("nested.list[2]"))
    assert.equal(17, map:line("nested.list[3]"))
    assert.equal(24, map:line("after"))
  end)

  it("reads keys in brackets", function()
    assert.equal(10, map:line(scanner.join("", "odd key")))
  end)

  it("skips function bodies and calls", function()
    assert.same({ 1, 2, 3 }, map:order_of("nested.list"))
    assert.equal(24, map:line("called"))
    assert.is_nil(map:order_of("called"))
  end)

  it("follows a local constructor named in the table", function()
    assert.equal(4, map:line("messages.Later"))
    assert.equal(4, map:line("messages.Later.from"))
  end)

  it("answers with the closest parent for keys that are not written", function()
    assert.equal(4, map:line("messages.Later.needs[3]"))
    assert.equal(8, map:line("nothing"))
  end)

  it("knows the lines inside a long string", function()
    assert.equal(20, map:text_line("nested.payload", 1))
    assert.equal(21, map:text_line("nested.payload", 2))
  end)

  it("keeps the order of keys as written", function()
    assert.same({ "id", "odd key", "nested", "called", "after", "messages" }, map:order_of(""))
  end)

  it("survives broken source", function()
    for cut = 1, #SOURCE, 7 do
      assert.is_number(scanner.scan(SOURCE:sub(1, cut)):line("nested.list[2]"))
    end
    assert.is_number(scanner.scan("return {{{ [").return_line)
  end)

  local BROKEN_OFF = {
    "return { id = ", "return {", "return { [", "return { [1", 'return { ["a"]', "local a = ", "return",
  }
  for _, text in ipairs(BROKEN_OFF) do
    it("survives a file that breaks off: " .. text, function() assert.is_table(scanner.scan(text)) end)
  end
end)
