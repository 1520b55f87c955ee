local descriptors = require("macp.modes.descriptors")

local function descriptor(changes)
  local out = { mode = "ext.x.v1", mode_version = "1", message_types = { "Ping", "Commitment" },
    terminal_message_types = { "Commitment" } }
  for key, value in pairs(changes or {}) do out[key] = value end
  return out
end

local function uris(count, value)
  local out = {}
  for i = 1, count do out["k" .. i] = value or "u" end
  return out
end

describe("descriptors", function()
  it("have no problem when they say what is needed", function()
    assert.is_nil(descriptors.problem(descriptor()))
    assert.is_nil(descriptors.problem(descriptor({ schema_uris = uris(32), title = ("x"):rep(8192) })))
    assert.is_nil(descriptors.problem(descriptor({ mode = ("x"):rep(1024) })))
  end)

  for _, case in ipairs({
    { 5, "must be an object" },
    { descriptor({ mode = 5 }), "mode must be a string" },
    { descriptor({ title = {} }), "title must be a string" },
    { descriptor({ message_types = "Ping" }), "message_types must be an array of strings" },
    { descriptor({ message_types = { a = "Ping" } }), "message_types must be an array of strings" },
    { descriptor({ terminal_message_types = { 1 } }), "terminal_message_types must be an array of strings" },
    { descriptor({ schema_uris = "x" }), "schema_uris must map names to URIs" },
    { descriptor({ schema_uris = { "x" } }), "schema_uris must map names to URIs" },
    { descriptor({ schema_uris = uris(33) }), "schema_uris has more than 32 entries" },
    { descriptor({ schema_uris = uris(1, ("u"):rep(8193)) }), "schema_uris has an entry that is too long" },
    { descriptor({ schema_uris = { [("k"):rep(1025)] = "u" } }), "schema_uris has an entry that is too long" },
    { descriptor({ mode_version = "1\n" }),
      "mode_version must not have control characters or white space around it" },
    { descriptor({ message_types = { "A\0", "Commitment" } }),
      "message_types[1] must not have control characters or white space around it" },
    { descriptor({ message_types = { "Commitment", ("x"):rep(1025) } }),
      "message_types[2] is longer than 1024 bytes" },
    { descriptor({ description = ("x"):rep(8193) }), "description is longer than 8192 bytes" },
  }) do
    it("are refused: " .. case[2], function() assert.equal(case[2], descriptors.problem(case[1])) end)
  end

  it("become a file that reads as the same descriptor", function()
    local odd = descriptors.complete(descriptor({
      title = "\"]]\\\n\r\0\1\127\195\169\255 end", description = "%d \\065",
      schema_uris = { ["a\"b"] = "c\\d", z = "" } }))
    assert.same(odd, assert(loadstring(descriptors.source(odd)))())
    assert.equal(descriptors.source(odd), descriptors.source(descriptors.complete(odd)))
  end)

  it("under another name are copies", function()
    local one = descriptor()
    local other = descriptors.renamed(one, "org.x.v1")
    other.message_types[1] = "Pong"
    assert.same({ "ext.x.v1", "Ping" }, { one.mode, one.message_types[1] })
    assert.equal("org.x.v1", other.mode)
  end)
end)
