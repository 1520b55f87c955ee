-- Templates: what the folder behind registered modes must say; and raw payloads, which exist for it.

local modes = require("spec.support.modes")

describe("a template", function()
  local function problems(text)
    return modes.problems({ ["mode.lua"] = text })
  end

  it("takes its identity from the descriptor and nowhere else", function()
    local found = problems([[return { template = { mode = "ext.x.v1", mode_version = "1",
      message_types = { "Commitment" }, terminal_message_types = { "Commitment" } }, package = "p", id = "ext.x.v1",
      messages = {}, outcomes = { { action = "a" } } }]])
    assert.same({ "2: id: a template takes this from its descriptor" }, found)
  end)

  it("names what is wrong with the descriptor", function()
    local found = problems([[return { template = { mode = "ext.x.v1" }, package = "p",
      messages = {}, outcomes = { { action = "a" } } }]])
    assert.same({ "1: template: message_types is empty: the mode has no message types" }, found)
  end)

  it("needs a package", function()
    local found = problems([[return { template = { mode = "x", mode_version = "1", message_types = { "Commitment" },
      terminal_message_types = { "Commitment" } }, messages = {}, outcomes = { { action = "a" } } }]])
    assert.same({ "1: package: is required (a string)" }, found)
  end)
end)

describe("a raw payload", function()
  local function mode(payload)
    return modes.source({ messages = 'Put = { from = "anyone", encoding = "raw", payload = "' .. payload
      .. '", apply = function(s, p) s.list[#s.list + 1] = p.blob end },' })
  end

  it("is the value of one bytes field", function()
    local rev = modes.build(mode("bytes blob = 1;"))
    assert(rev:start("s", modes.start()))
    assert.equal("accepted", (rev:submit("s", "Put", "stranger", "\255\0{", 1)))
    assert.same({ "\255\0{" }, modes.state(rev, "s").list)
    assert.equal("abc", modes.encode(rev, "Put", { blob = "abc" }))
    assert.same({ blob = "abc" }, rev:codec("Put"):decode(rev:codec("Put"):encode({ blob = "abc" })))
    local shown = rev:observe("s", "Put", "ann", "abc", 2, "m", "2026-01-01T00:00:00Z")
    assert.equal('{"payloadBase64":"YWJj"}', shown)
    assert.truthy(rev:describe().proto:find("// Put: the payload is opaque bytes", 1, true))
    assert.same({ "anyone" }, rev:describe().authority.Put)
    rev:close()
  end)

  it("needs exactly that field", function()
    for _, payload in ipairs({ "", "string blob = 1;", "repeated bytes blob = 1;", "bytes blob = 1; bytes b = 2;" }) do
      local found = modes.problems(mode(payload))
      assert.truthy(found[1]:find("'raw' needs a payload of one bytes field", 1, true), payload)
    end
  end)
end)
