-- The verbs of `macp modes`, run as a user runs them.

local fs = require("host.fs")
local json = require("host.json")

local program = require("spec.support.program")

-- Runs a command to its end: exit code, output.
local function macp(...)
  local run = program.start({ args = { "modes", ... } })
  local status = run:wait(20000)
  return status.code, run:output()
end

local dir

describe("macp modes", function()
  before_each(function() dir = assert(fs.temp_dir("macp-modes")) end)
  after_each(function() fs.remove_tree(dir) end)

  it("checks the auction", function()
    local code, out = macp("check", "modes/auction")
    assert.equal([[
ok    below_reserve.lua      6 messages
ok    highest_bid_wins.lua  10 messages
note  modes/auction/mode.lua:39: messages.Open.needs[1] 'the auction is new' is never refused by a fixture
note  modes/auction/mode.lua:51: messages.Seal.needs[1] 'the auction is sealing' is never refused by a fixture
note  modes/auction/mode.lua:66: messages.Reveal.needs[2] 'the sender sealed a bid' is never refused by a fixture
2 fixtures, 0 failed]], out)
    assert.equal(0, code)
  end)

  it("makes a folder that checks clean", function()
    local code, out = macp("new", "demo", "--in", dir)
    assert.equal(0, code)
    assert.truthy(out:find("Next: macp modes check " .. dir .. "/demo", 1, true))
    code, out = macp("check", dir .. "/demo")
    assert.equal("ok    everybody_greets.lua   3 messages\n1 fixture, 0 failed", out)
    assert.equal(0, code)
    code = macp("new", "demo", "--in", dir)
    assert.equal(1, code)
  end)

  it("exits 1 for errors, 2 for failed fixtures, 3 for wrong usage", function()
    macp("new", "demo", "--in", dir)
    local text = assert(fs.read(dir .. "/demo/mode.lua"))
    assert(fs.write(dir .. "/demo/mode.lua", (text:gsub("needs = ", "neds = "))))
    local code, out = macp("check", dir .. "/demo")
    assert.equal(1, code)
    assert.truthy(out:find("mode.lua:23: messages.Hello.neds: unknown field (did you mean 'needs'?)", 1, true), out)
    assert(fs.write(dir .. "/demo/mode.lua", (text:gsub("return not s.greeted%[by%]", "return true"))))
    code, out = macp("check", dir .. "/demo")
    assert.equal(2, code)
    assert.truthy(out:find("everybody_greets.lua:8: Hello by ann was accepted, expected INVALID_ENVELOPE", 1, true),
      out)
    assert.equal(3, (macp("check", dir .. "/none")))
    code, out = macp("check", dir .. "/demo", dir .. "/none")
    assert.same({ 3, "macp modes check: " .. dir .. "/none is not a folder" }, { code, out })
    code, out = macp("doc", dir .. "/none")
    assert.same({ 1, "macp modes doc: " .. dir .. "/none is not a folder" }, { code, out })
    assert.equal(3, (macp("check")))
    assert.equal(3, (macp("new", "Not-A-Name", "--in", dir)))
  end)

  it("prints problems as JSON for editors", function()
    macp("new", "demo", "--in", dir)
    local text = assert(fs.read(dir .. "/demo/mode.lua"))
    assert(fs.write(dir .. "/demo/mode.lua", (text:gsub("needs = ", "neds = "))))
    local _, out = macp("check", dir .. "/demo", "--json")
    local problems = json.decode(out)
    assert.equal(1, #problems)
    assert.same({ 23, "error", "unknown-field", "messages.Hello.neds" },
      { problems[1].line, problems[1].severity, problems[1].rule, problems[1].key })
  end)

  it("prints a .proto, documentation and differences", function()
    local code, out = macp("proto", "modes/decision")
    assert.equal(0, code)
    assert.truthy(out:find("package macp.modes.decision.v1;", 1, true))
    assert.truthy(out:find("  double confidence = 3;", 1, true))
    code, out = macp("doc", "modes/decision")
    assert.equal(0, code)
    assert.truthy(out:find("| `Vote` | participant |", 1, true))
    code, out = macp("diff", "modes/decision", "--against", "modes/decision")
    assert.equal(0, code)
    assert.equal("macp.mode.decision.v1: the same revision", out)
  end)
end)
