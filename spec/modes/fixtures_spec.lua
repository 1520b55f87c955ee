-- Every folder below modes/ is clean: valid, all fixtures pass in all four ways, the random walk finds nothing, every
-- message is accepted by a fixture.

local check = require("macp.modes.check")
local report = require("macp.modes.report")
local source = require("macp.modes.source")

local SHIPPED = { "auction", "decision", "handoff", "multi_round", "passthrough", "proposal", "quorum", "task" }

-- Rules that the worked example of the mode API leaves without a refusal; nothing else may.
local UNREFUSED = {
  ["modes/auction/"] = { "messages.Open.needs[1]", "messages.Seal.needs[1]", "messages.Reveal.needs[2]" },
}

local function lines(problems)
  local out = {}
  for i, problem in ipairs(problems) do out[i] = report.line(problem) end
  return out
end

describe("the shipped modes", function()
  for _, name in ipairs(SHIPPED) do
    local root = "modes/" .. name .. "/"

    it(name .. " is clean", function()
      local files = assert(source.read("modes/" .. name))
      for seed = 1, 3 do
        local outcome = check.files(files, root, { seed = seed })
        assert.same({}, lines(outcome.problems))
        assert.equal(0, outcome.failed)
        assert.is_true(#outcome.results > 0)
      end
    end)

    it(name .. " has a refusal for every rule and an acceptance of every message", function()
      local outcome = check.files(assert(source.read("modes/" .. name)), root, { walk = false })
      local unrefused = {}
      for i, note in ipairs(outcome.notes) do unrefused[i] = note.text:match("^(%S+)") end
      assert.same(UNREFUSED[root] or {}, unrefused)
    end)

    it(name .. " stays far below its budget", function()
      local outcome = check.files(assert(source.read("modes/" .. name)), root, { walk = false })
      for message, used in pairs(outcome.cover.instructions) do
        assert.is_true(used < 5000, message .. " uses " .. used .. " instructions")
      end
    end)
  end

  it("includes every folder", function()
    local names = {}
    for i, folder in ipairs(assert(source.folders("modes"))) do names[i] = folder.name end
    assert.same(SHIPPED, names)
  end)
end)
