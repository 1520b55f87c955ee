-- What the commands of `macp modes` are made of.

local fs = require("host.fs")

local check = require("macp.modes.check")
local diff = require("macp.modes.diff")
local docs = require("macp.modes.docs")
local report = require("macp.modes.report")
local scaffold = require("macp.modes.scaffold")
local source = require("macp.modes.source")
local modes = require("spec.support.modes")

describe("modes new", function()
  it("makes a folder that is clean, for any allowed name", function()
    for _, name in ipairs({ "lottery", "a", "two_words_2" }) do
      local outcome = check.files(scaffold.files(name, "modes/" .. name), "modes/" .. name .. "/")
      assert.same({}, outcome.problems)
      assert.same({}, outcome.notes)
      assert.equal(0, outcome.failed)
      assert.equal(1, #outcome.results)
    end
  end)

  it("refuses names that cannot be an id", function()
    for _, name in ipairs({ "", "Lottery", "2x", "a b", "../x", ("a"):rep(41) }) do
      assert.is_nil((scaffold.check_name(name)), name)
    end
  end)
end)

describe("modes check", function()
  it("says what no fixture shows", function()
    local outcome = check.files({ ["mode.lua"] = modes.source() }, "m/", { walk = false })
    assert.equal("the folder has no fixtures: nothing shows that it works", outcome.notes[1].text)
    assert.equal("messages.Put is never accepted by a fixture", outcome.notes[2].text)
    assert.equal("messages.Put.needs[1] 'n is not negative' is never refused by a fixture", outcome.notes[3].text)
  end)

  it("finds predicates that change the state", function()
    local outcome = check.files({
      ["mode.lua"] = modes.source({ messages = [[ Put = { from = "participant", needs = {
        { "counts", function(s) s.n = (s.n or 0) + 1 return true end } } },]] }),
      ["fixtures/a.lua"] = [[return { initiator = "ann", participants = { "ann" },
        { "ann", "Put", {} } }]] }, "m/", { walk = false })
    assert.equal(1, outcome.failed)
    assert.equal("m/fixtures/a.lua:2: a predicate of Put changed the state   [fixture]",
      report.line(outcome.problems[1]))
  end)

  it("finds views and timers that change the state, and broken invariants", function()
    local fixture = [[return { initiator = "ann", participants = { "ann" }, { "ann", "Put", { key = "k" } } }]]
    local function problem(files)
      files["fixtures/a.lua"] = fixture
      return check.files(files, "m/", { walk = false }).problems[1].text
    end
    assert.equal("a view or timer function changed the state", problem({ ["mode.lua"] = modes.source(),
      ["reducer.lua"] = "return { render = function(s) s.seen = (s.seen or 0) + 1 return {} end }" }))
    assert.equal("the invariant 'never full' does not hold", problem({ ["mode.lua"] = modes.source({
      rest = "invariants = { { 'never full', function(s) return not s.items.k end } }," }) }))
    assert.truthy(problem({ ["mode.lua"] = modes.source(),
      ["reducer.lua"] = "return { render = function(s) return { f = function() end } end }" }):find("view", 1, true))
  end)

  it("finds state that depends on more than the history", function()
    local outcome = check.files({
      ["mode.lua"] = modes.source({ head = "local seen = { n = 0 }", messages = [[
        Put = { from = "participant", apply = function(s) seen.n = seen.n + 1 s.n = seen.n end },]] }),
      ["fixtures/a.lua"] = [[return { initiator = "ann", participants = { "ann" }, { "ann", "Put", {} } }]] }, "m/",
      { walk = false })
    assert.equal("replayed, the session ends in another state", outcome.problems[1].text)
  end)

  it("explains every kind of failing step, with its line", function()
    local function problem(steps, keys)
      local outcome = check.files({ ["mode.lua"] = modes.source(), ["fixtures/a.lua"] = "return { initiator = 'ann', "
        .. "participants = { 'ann' }, " .. (keys or "") .. "\n" .. steps .. "\n}" }, "m/", { walk = false })
      local first = outcome.problems[1]
      return first and first.line .. ": " .. first.text or "none"
    end
    assert.equal("2: Put by ann was accepted, expected FORBIDDEN",
      problem("{ 'ann', 'Put', { key = 'k' }, reject = 'FORBIDDEN' }"))
    assert.equal("2: Put by bob was refused: FORBIDDEN: Put may only be sent by a participant",
      problem("{ 'bob', 'Put', { key = 'k' } }"))
    assert.equal([[2: Put was refused because "n is not negative", expected "other"]],
      problem("{ 'ann', 'Put', { key = 'k', n = -1 }, reject = 'INVALID_ENVELOPE', because = 'other' }"))
    assert.equal("2: Put was refused with INVALID_ENVELOPE (n is not negative), expected FORBIDDEN",
      problem("{ 'ann', 'Put', { key = 'k', n = -1 }, reject = 'FORBIDDEN' }"))
    assert.equal("2: payload of Put: unknown field 'kay'", problem("{ 'ann', 'Put', { kay = 'k' } }"))
    assert.equal("2: state.items is a table, expected 3", problem("{ state = { items = 3 } }"))
    assert.equal("2: view.items.k is nil, expected 1", problem("{ view = { items = { k = 1 } } }"))
    assert.equal("2: ready.positive is true, expected false", problem("{ ready = { positive = false } }"))
    assert.equal("2: the last entry is nothing, expected Put from the runtime", problem("{ 'runtime', 'Put', {} }"))
    assert.equal("2: unknown field 'rejekt' in a step (did you mean 'reject'?)",
      problem("{ 'ann', 'Put', {}, rejekt = 'X' }"))
    assert.equal("1: the session ends Open, expected Resolved", problem("", "final = 'Resolved',"))
    assert.equal("1: unknown field 'finl' (did you mean 'final'?)", problem("", "finl = 'Open',"))
    assert.equal("1: the start was accepted, expected INVALID_ENVELOPE", problem("", "start = { 'INVALID_ENVELOPE' },"))
    assert.equal("1: policy: rules.nope.x: unknown rule", (problem("", "policy = { ['commitment.nope'] = 1 },")
      :gsub("commitment.nope: unknown rule.*", "nope.x: unknown rule")))
    assert.equal("none", problem("{ wait = 5 }, { suspend = 10 }, { cancel = 'ann' }, "
      .. "{ 'ann', 'Put', { key = 'k' }, reject = 'SESSION_NOT_OPEN' }", "final = 'Cancelled',"))
  end)

  it("walks on with what was accepted: a message that names an earlier one finds it", function()
    local outcome = check.files({ ["mode.lua"] = modes.source({ state = "{ }", messages = [[
      Ask = { from = "participant", payload = "string name = 1 [required];",
        needs = { { "once", function(s) return not s.name end } }, apply = function(s, p) s.name = p.name end },
      Answer = { from = "participant", payload = "string name = 1;",
        needs = { { "it names the question", function(s, p) return p.name == s.name end } },
        apply = function(s, p) s.answers = (s.answers or 0) + 1 end },]],
      outcomes = [[outcomes = { { action = "spec.completed", positive = true,
        when = function(s) return (s.answers or 0) > 9 end } },]] }) }, "m/", { seed = 3 })
    for _, note in ipairs(outcome.notes) do assert.is_nil(note.text:find("no outcome became ready", 1, true)) end
  end)

  it("walks into errors that fixtures miss", function()
    local outcome = check.files({ ["mode.lua"] = modes.source({ messages = [[
      Put = { from = "participant", payload = "int64 n = 1 [max = 20];",
        apply = function(s, p) if p.n == 3 then s.x = s.y.z end s.n = p.n end },]] }) }, "m/", { seed = 5 })
    assert.equal(1, report.count(outcome.problems, "error"))
    assert.truthy(report.line(outcome.problems[1]):find("m/mode.lua:7: attempt to index field 'y'", 1, true))
    assert.equal("walk", outcome.problems[1].rule)
  end)

  it("notes a mode that never gets ready", function()
    local outcome = check.files({ ["mode.lua"] = modes.source({
      outcomes = "outcomes = { { action = 'spec.completed', when = function() return false end } }," }) }, "m/")
    assert.truthy(outcome.notes[#outcome.notes].text:find("no outcome became ready", 1, true))
  end)

  it("compares a standard mode with the protocol's .proto files", function()
    local files = assert(source.read("modes/decision"))
    local function problems(change)
      local copy = {}
      for name, text in pairs(files) do
        if name == "mode.lua" or name:find("^lib/") then copy[name] = text end
      end
      copy["mode.lua"] = change(copy["mode.lua"])
      local out = {}
      for i, problem in ipairs(check.files(copy, "m/", { walk = false }).problems) do out[i] = problem.text end
      return out
    end
    assert.same({}, problems(function(text) return text end))
    assert.same({ "float confidence = 3 is double confidence = 3 in the protocol" },
      problems(function(text) return (text:gsub("double confidence ", "float confidence ")) end))
    assert.same({ "the protocol also has string rationale = 3" },
      problems(function(text) return (text:gsub("string rationale       = 3;", "")) end))
    assert.same({ "the protocol has no message macp.modes.decision.v1.VotesPayload" },
      problems(function(text) return (text:gsub("Vote = {", "Votes = {")) end))
  end)

  it("tells the same id and version in two folders", function()
    local dir = assert(fs.temp_dir("macp-check"))
    for _, name in ipairs({ "a", "b" }) do
      assert(fs.mkdir_p(dir .. "/" .. name))
      assert(fs.write(dir .. "/" .. name .. "/mode.lua", modes.source()))
    end
    local outcomes = assert(check.folders({ dir .. "/a", dir .. "/b" }, { walk = false }))
    assert.equal("identity.duplicate", outcomes[2].problems[1].rule)
    assert.is_nil((check.folders({ dir .. "/none" })))
    fs.remove_tree(dir)
  end)
end)

describe("modes diff", function()
  local FIXTURE = [[return { initiator = "ann", participants = { "ann" },
    { "ann", "Put", { key = "k", n = 1 } },
    { "ann", "Put", { key = "k", n = 2 }, reject = "INVALID_ENVELOPE" },
    { "ann", "Commitment", { action = "spec.completed" } }, final = "Resolved" }]]

  local function compare(old_parts, new_parts)
    local old, new = modes.build(modes.source(old_parts)), modes.build(modes.source(new_parts))
    local found = diff.over_fixtures(old, new, { ["fixtures/a.lua"] = FIXTURE }, "m/")
    old:close()
    new:close()
    return found[1] and found[1].path .. ":" .. found[1].line .. ": " .. found[1].text or "same"
  end

  it("names the first message whose verdict, state or outcome differs", function()
    assert.equal("same", compare())
    assert.equal("m/fixtures/a.lua:3: Put by ann: INVALID_ENVELOPE, before; Put by ann: accepted, now", compare(nil, {
      messages = [[ Put = { from = "participant", payload = "string key = 1; int64 n = 2;",
        apply = function(s, p, by) s.items[p.key] = s.items[p.key] or { n = p.n, by = by } end },]] }))
    assert.equal("m/fixtures/a.lua:2: Put by ann: accepted: the states differ", compare(nil, { messages = [[
      Put = { from = "participant", payload = "string key = 1 [new = items]; int64 n = 2;",
        apply = function(s, p, by) s.items[p.key] = { n = p.n + 1, by = by } end },]] }))
    assert.equal("m/fixtures/a.lua:4: Commitment by ann: resolved, before; Commitment by ann: INVALID_ENVELOPE, now",
      compare(nil, { outcomes = "outcomes = { { action = 'spec.failed', positive = false } }," }))
  end)
end)

describe("modes doc", function()
  it("tells authority, payloads, refusals, outcomes and rules", function()
    local rev = modes.build(modes.source({
      rest = "policy = { rules = { ['spec.limit'] = { type = 'integer', min = 1, default = 2, doc = 'a | b' } } }," }))
    local text = docs.render(rev)
    for _, part in ipairs({ "| `Put` | participant |", "| 1 | `key` | string | required; must be new in `items` |",
      "| 1 | n is not negative | `INVALID_ENVELOPE` |", "| `spec.completed` | positive |",
      "| `spec.limit` | integer | 2 | at least 1 | a \\| b |" }) do
      assert.truthy(text:find(part, 1, true), part)
    end
    rev:close()
  end)

  it("tells when an outcome is ready and which old words a rule takes", function()
    local rev = modes.build(modes.source({
      outcomes = [[outcomes = { { action = "spec.completed", positive = true, when = function() return true end,
        doc = "when it is | done" }, { action = "spec.failed", positive = false, when = function() return true end },
        { action = "spec.other" } },]],
      rest = [[policy = { rules = { ["spec.kind"] = { type = "string", one_of = { "new" },
        alias = { older = "new", old = "new" } }, ["spec.limit"] = { type = "integer", min = 1, unset = 0 } } },]] }))
    local text = docs.render(rev)
    for _, part in ipairs({ "| `spec.completed` | positive | when it is \\| done |",
      "| `spec.failed` | negative | when its condition holds |", "| `spec.other` | either | always |",
      "| `spec.kind` | string |  | new; old means new; older means new |  |",
      "| `spec.limit` | integer |  | 0 means absent; at least 1 |  |" }) do
      assert.truthy(text:find(part, 1, true), part .. "\n" .. text)
    end
    rev:close()
  end)
end)
