-- The examples as a reader runs them: `macp run` in a process of its own, against a runtime.

local program = require("spec.support.program")
local sdk_rig = require("spec.support.sdk_rig")

describe("the example", function()
  local rig

  setup(function() rig = sdk_rig.start() end)
  teardown(function() rig:close() end)

  -- Runs a script to its end; returns its exit code and what it printed. (yields)
  local function run(...)
    local proc = program.start({ args = { "run", ... } })
    return proc:wait(20000).code, proc:output()
  end

  local function state_of(output)
    local id = output:match("starts session (%S+)")
    return rig:client("lead"):get_session(id).metadata
  end

  it("quickstart/decision.lua decides for redis", function()
    local code, output = run("examples/quickstart/decision.lua", rig.address)
    assert.equal(0, code, output)
    assert.truthy(output:find("lead  commits: cache.selected", 1, true), output)
    for _, name in ipairs({ "ana", "ben" }) do
      assert.truthy(output:find(name .. " +votes for redis"), output)
      assert.truthy(output:find(name .. " +evaluates memory"), output)
    end
    assert.equal("RESOLVED", state_of(output).state)
  end)

  it("agents/auction.lua sells to the best bid", function()
    local code, output = run("examples/agents/auction.lua", rig.address)
    assert.equal(0, code, output)
    assert.truthy(output:find("seller sells to ben for 135", 1, true), output)
    local sealed, revealed = output:find("ends the sealing", 1, true), output:find("reveals 1", 1, true)
    assert.is_true(sealed < revealed)
    assert.equal("RESOLVED", rig:client("seller"):get_session(output:match("starts session (%S+)")).metadata.state)
  end)

  it("fails with a message when no runtime is there", function()
    local code, output = run("examples/agents/auction.lua", "127.0.0.1:1")
    assert.equal(1, code)
    assert.truthy(output:find("MacpTransportError", 1, true) or output:find("127.0.0.1:1", 1, true), output)
  end)
end)
