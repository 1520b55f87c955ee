local embedded = require("macp.modes.embedded")
local isolation = require("macp.modes.isolation")
local memory = require("macp.modes.memory")
local source = require("macp.modes.source")
local modes = require("spec.support.modes")

local NAMES = { "decision", "task", "passthrough" }

local opened, new_isolate, made

local function folders()
  local list = {}
  for i, name in ipairs(NAMES) do list[i] = { files = source.embedded(name), root = "modes/" .. name .. "/" } end
  return list
end

local function open(opts)
  local revs, problems = embedded.revisions(folders(), function(folder)
    return { root = folder.root, limits = opts and opts.limits }
  end)
  assert(revs, problems and problems[1] and problems[1].text)
  for _, rev in ipairs(revs) do opened[#opened + 1] = rev end
  return revs
end

local function bytes(revs)
  local by_hash = {}
  for _, rev in ipairs(revs) do by_hash[rev.hash] = rev end
  return memory.by_mode({ by_hash = by_hash })
end

local function propose(rev)
  return rev:submit("s", "Proposal", "ann", modes.encode(rev, "Proposal", { proposal_id = "p", option = "o" }), 1)
end

describe("revisions inside the program", function()
  before_each(function()
    opened, made, new_isolate = {}, 0, isolation.new
    isolation.new = function(...)
      made = made + 1
      return new_isolate(...)
    end
  end)

  after_each(function()
    isolation.new = new_isolate
    for _, rev in ipairs(opened) do rev:close() end
  end)

  it("are described without an isolate of their own", function()
    local revs = open()
    assert.is_true(made <= 1)
    assert.equal("macp.mode.decision.v1", revs[1].id)
    assert.equal("macp.mode.decision.v1", revs[1]:describe().descriptor.mode)
    assert.is_true(#revs[1]:routes() >= 0)
    for _, used in pairs(bytes(revs)) do assert.equal(0, used) end
  end)

  it("are read once for all registries of a process", function()
    open()
    made = 0
    open()
    assert.equal(0, made)
  end)

  it("get an isolate with their first session, and only that one", function()
    local revs = open()
    made = 0
    assert.is_true((revs[1]:start("s", modes.start())))
    assert.equal(1, made)
    assert.is_true(revs[1]:start("t", modes.start()))
    assert.equal(1, made)
    local used = bytes(revs)
    assert.is_true(used["macp.mode.decision.v1"] > 0)
    assert.equal(0, used["macp.mode.task.v1"])
    assert.equal("accepted", propose(revs[1]))
    revs[1]:drop("s")
  end)

  it("keep the options of their registry when they wake", function()
    local revs = open({ limits = { state_bytes = 1 } })
    assert.equal(1, revs[1].limits.state_bytes)
    assert.is_true((revs[1]:start("s", modes.start())))
    local verdict, refused = propose(revs[1])
    assert.is_nil(verdict)
    assert.matches("state", refused.message)
    local others = open()
    assert.is_true((others[1]:start("s", modes.start())))
    assert.equal("accepted", propose(others[1]))
  end)

  it("can be left alone: what only frees something wakes nobody", function()
    local revs = open()
    made = 0
    revs[1]:drop("s")
    revs[1]:encode_stop("s")
    revs[1]:close()
    revs[1]:close()
    assert.equal(0, made)
    assert.is_nil(revs[1].iso)
    assert.equal(0, bytes(revs)["macp.mode.decision.v1"])
  end)

  it("of a broken folder are told with file and line", function()
    local odd = { files = { ["mode.lua"] = "return { id = 1 }" }, root = "modes/odd/" }
    local revs, problems = embedded.revisions({ odd }, function(folder) return { root = folder.root } end)
    assert.is_nil(revs)
    assert.equal("modes/odd/mode.lua", problems[1].path)
    assert.matches("must be a string", problems[1].text)
  end)
end)
