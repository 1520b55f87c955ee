local fields = require("macp.modes.fields")

local function problems_of(text)
  local _, problems = fields.parse(text)
  local out = {}
  for i, problem in ipairs(problems) do out[i] = problem.line .. ": " .. problem.text end
  return out
end

describe("the payload field list", function()
  it("reads types, numbers and options", function()
    local list, problems = fields.parse([[
      string id = 1 [required, new = bids];   // comment
      repeated int64 amounts = 3 [min = 1, max = 4];
      map<string, double> shares = 4;
      string vote = 5 [upper, in = "YES|NO", default = "NO"];
      sint32 delta = 6 [min = -5, max = 1e3];
    ]])
    assert.same({}, problems)
    assert.equal(5, #list)
    assert.same({ name = "id", number = 1, type = "string", required = true, new = "bids", line = 1 }, list[1])
    assert.is_true(list[2].repeated)
    assert.equal(4, list[2].max)
    assert.is_true(list[3].map)
    assert.equal("double", list[3].type)
    assert.same({ "YES", "NO" }, list[4].one_of)
    assert.equal("NO", list[4].default)
    assert.equal(-5, list[5].min)
    assert.equal(1000, list[5].max)
  end)

  it("collects all problems with their lines", function()
    assert.same({
      "1: payload field 'a': unknown type 'int46' (did you mean 'int64'?)",
      "2: payload field 'b': unknown option 'requird' (did you mean 'required'?)",
      "3: payload field 'c': number 2 is taken by 'b'",
      "4: payload field 'b': the name is used twice",
      "5: payload field 'e': the field number must be 1 to 536870911",
      "6: payload field 'f': the numbers 19000 to 19999 are reserved",
      "7: payload field 'g': the default does not fit the type 'string'",
      "8: payload field 'h': option 'in' applies to strings",
    }, problems_of([[
int46 a = 1;
string b = 2 [requird];
string c = 2;
string b = 4;
string e = 0;
string f = 19500;
string g = 7 [default = 5];
int32 h = 8 [in = "A|B"];]]))
  end)

  it("recovers after a malformed field", function()
    local list, problems = fields.parse("what is this; string ok = 1;")
    assert.equal(1, #list)
    assert.equal("ok", list[1].name)
    assert.is_true(#problems >= 1)
  end)

  it("refuses map keys that are no strings and options in the wrong place", function()
    assert.same({ "1: payload: map keys must be string, not 'int32'" }, problems_of("map<int32, string> m = 1;"))
    assert.same({ "1: payload field 'n': option 'ref' applies to single strings" },
      problems_of("int32 n = 1 [ref = x];"))
    assert.same({ "1: payload field 'n': option 'wide' applies to 64-bit integers" },
      problems_of("int32 n = 1 [wide];"))
  end)

  it("does not loop on any prefix of a list", function()
    local text = 'repeated string tags = 3 [min = 1, in = "A|B"]; map<string, bytes> m = 4;'
    for cut = 0, #text do fields.parse(text:sub(1, cut)) end
  end)

  it("passes over comments of both kinds and keeps count of the lines", function()
    local list, problems = fields.parse("/* two\n lines */ string a = 1; // c\n int46 b = 2;")
    assert.equal("a", list[1].name)
    assert.same({ { line = 3, text = "payload field 'b': unknown type 'int46' (did you mean 'int64'?)" } }, problems)
    assert.same({}, problems_of("string a = 1; /* never closed"))
  end)

  it("refuses options that no value can meet, or that say two things", function()
    for text, reason in pairs({
      ["string a = 1 [min = 5, max = 2];"] = "option 'min' is above 'max'",
      ["string a = 1 [upper, lower];"] = "options 'upper' and 'lower' exclude each other",
      ['string a = 1 [in = ""];'] = "option 'in' names no word",
      ["string a = 1 [min = 1, min = 2];"] = "option 'min' is given twice",
      ['string a = 1 [in = "x", in = "y"];'] = "option 'in' is given twice",
      ['string a = 1 [in = "a|b", default = "c"];'] = "the default is not one of a, b",
      ['string a = 1 [max = 2, default = "abc"];'] = "the default is above max",
      ["int64 a = 1 [min = 5, default = 3];"] = "the default is below min",
      ["int32 a = 1 [default = 1.5];"] = "the default is no int32",
      ["int32 a = 1 [default = 5000000000];"] = "the default is no int32",
      ["uint64 a = 1 [default = -1];"] = "the default is no uint64",
    }) do
      assert.same({ "1: payload field 'a': " .. reason }, problems_of(text), text)
    end
    assert.same({}, problems_of('string a = 1 [upper, in = "A|B", default = "a"];'))
  end)
end)
