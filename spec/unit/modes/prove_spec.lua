-- What fixtures show, and what is no fixture.

local check = require("macp.modes.check")
local fs = require("host.fs")
local modes = require("spec.support.modes")

local PUT = '{ "ann", "Put", { key = "k" } }'

-- The problems of a mode with these files and one fixture of these steps.
local function problems(steps, files)
  local all = { ["mode.lua"] = modes.source(),
    ["fixtures/a.lua"] = 'return { initiator = "ann", participants = { "ann" },\n' .. steps .. "\n}" }
  for name, text in pairs(files or {}) do all[name] = text end
  local out = {}
  for i, problem in ipairs(check.files(all, "m/", { walk = false }).problems) do
    out[i] = string.format("%s:%d: %s", problem.path, problem.line, problem.text)
  end
  return table.concat(out, "; ")
end

describe("a fixture", function()
  it("is a table of steps", function()
    assert.equal("m/fixtures/a.lua:1: a fixture returns a table, not number",
      problems("", { ["fixtures/a.lua"] = "return 5" }))
    assert.equal("m/fixtures/a.lua:3: step 2 is not a table but a number", problems(PUT .. ",\n5"))
  end)

  it("says one thing in a step, and something that can be", function()
    for step, reason in pairs({
      ["{ wait = -1 }"] = "'wait' is a number of milliseconds, not -1",
      ["{ wait = 1/0 }"] = "'wait' is a number of milliseconds, not inf",
      ["{ suspend = 0/0 }"] = "'suspend' is a number of milliseconds, not " .. tostring(0 / 0),
      ["{ expire = false }"] = "'expire' is true or not there",
      ["{ wait = 1, suspend = 1 }"] = "a step says one thing, not 'wait' and 'suspend'",
      ['{ "ann", "Put", {}, wait = 1 }'] = "a step with 'wait' sends no message",
      ['{ wait = 1, reject = "FORBIDDEN" }'] = "a step with 'wait' sends no message",
      ['{ "ann", "Put", { key = "k" }, because = "x" }'] = "'because' needs 'reject': only a refusal has a reason",
    }) do
      assert.equal("m/fixtures/a.lua:2: " .. reason, problems(step), step)
    end
  end)

  it("has no steps after a refused start", function()
    assert.equal("m/fixtures/a.lua:2: a fixture whose 'start' is refused has no steps",
      problems(PUT .. ', start = { "INVALID_ENVELOPE" }'))
  end)

  it("shows no refusal with a payload that was never sent", function()
    assert.equal("m/fixtures/a.lua:2: payload of Put: unknown field 'kye'",
      problems('{ "ann", "Put", { kye = "k" }, reject = "INVALID_ENVELOPE" }'))
  end)

  it("in JSON has the shape of the conformance suite", function()
    local function json(members)
      return problems(PUT, { ["fixtures/b.json"] = '{"mode":"ext.spec.v1"' .. members .. "}" })
    end
    local people = ',"initiator":"ann","participants":["ann"]'
    for members, reason in pairs({
      [""] = "'initiator' is required", [',"initiator":"ann"'] = "'participants' is required",
      [',"initiator":5'] = "'initiator' must be a string, not a number",
      [',"initiator":"ann","participants":[5]'] = "'participants' must be an array of strings",
      [people .. ',"messages":[5]'] = "messages[1] must be { sender, message_type, payload }",
      [people .. ',"messages":[{"sender":"ann"}]'] = "messages[1] must be { sender, message_type, payload }",
    }) do
      assert.equal("m/fixtures/b.json:1: " .. reason, json(members), members)
    end
  end)
end)

describe("a played fixture", function()
  it("runs the normalizer on every message, and finds what fails or changes the state", function()
    local function shown(entry)
      return problems(PUT, { ["normalizer.lua"] = "return { events = {\nPut = { 'proposal.updated', " .. entry
        .. " } } }" })
    end
    assert.equal("m/fixtures/a.lua:2: normalizer: normalizer.events.Put: m/normalizer.lua:2: attempt to index field 'x'"
      .. " (a nil value)", shown("label = function(p, by, s) return s.x.y end"))
    assert.equal("m/fixtures/a.lua:2: normalizer: normalizer.events.Put: m/normalizer.lua:2: an event's kind, id and"
      .. " label are strings", shown("label = function() return {} end"))
    assert.equal("m/fixtures/a.lua:2: the normalizer or reducer changed the state",
      shown("data = function(p, by, s) s.seen = true return {} end"))
    assert.equal("", shown("label = function(p, by, s, c) return c.message_id .. c.time .. c.context_id end"))
  end)

  it("runs every function of the reducer", function()
    local function reduced(entry)
      return problems(PUT, { ["reducer.lua"] = "return {\n" .. entry .. " }" })
    end
    local at = "m/fixtures/a.lua:1: view: "
    assert.equal(at .. "m/reducer.lua:2: attempt to index field 'x' (a nil value)",
      reduced("summary = function(s) return s.x.y end"))
    assert.equal(at .. "m/reducer.lua:2: a summary is a string", reduced("summary = function(s) return {} end"))
    assert.equal(at .. "m/reducer.lua:2: graph must return { nodes =, edges = }",
      reduced("graph = function(s) return { nodes = {} } end"))
    assert.equal(at .. "render returned nothing", reduced("render = function(s) end"))
    assert.equal(at .. "m/reducer.lua:2: view.f: a function has no JSON form",
      reduced("render = function(s) return { f = function() end } end"))
    assert.equal("m/fixtures/a.lua:2: reduce of proposal.created: m/reducer.lua:2: attempt to index field 'x' (a nil"
      .. " value)",
      reduced("reduce = { ['proposal.created'] = function(extra) return extra.x.y end }"))
    assert.equal("m/fixtures/a.lua:2: the normalizer or reducer changed the state",
      reduced("reduce = { ['proposal.created'] = function(extra, event, s) s.seen = true end }"))
    assert.equal("", reduced([[reduce = { ['proposal.created'] = function(extra, event, s, c)
      assert(event.data.decodedPayload.key == "k" and event.data.sender == "ann" and event.subject.id == "k")
      assert(c.context_id == "" and c.participants[1] == "ann") extra.n = 1 end },
      render = function(s, c) assert(not s.items.k or c.extra) return { n = c.extra.n } end]]))
  end)

  it("notes deliveries that go out as they are, each failure once", function()
    local function notes(text)
      local outcome = check.files({ ["mode.lua"] = modes.source(), ["webhook.lua"] = text,
        ["fixtures/a.lua"] = 'return { initiator = "ann", participants = { "ann" }, ' .. PUT .. ", "
          .. PUT:gsub('"k"', '"l"')
          .. " }" }, "m/", { walk = false })
      assert.same({}, outcome.problems)
      local out = {}
      for _, note in ipairs(outcome.notes) do
        if note.path == "m/webhook.lua" then out[#out + 1] = note.line .. " " .. note.text end
      end
      return out
    end
    assert.same({ "1 run.failed can be due here and goes out as it is: attempt to index field 'k' (a nil value)" },
      notes("return { shape = function(e, s) return e.type == 'run.failed' and { n = s.items.k.n } or {} end }"))
    assert.same({ "1 run.started can be due here and goes out as it is: shape must return a table, not string" },
      notes("return { shape = function() return 'x' end }"))
    assert.equal("m/fixtures/a.lua:1: a view or timer function changed the state",
      problems(PUT, { ["webhook.lua"] = "return { filter = function(e, s) s.told = true return true end }" }))
  end)
end)

describe("a folder", function()
  it("is told of files that nobody reads", function()
    local dir = assert(fs.temp_dir("macp-strangers-"))
    assert(fs.mkdir_p(dir .. "/lib"))
    for name, text in pairs({ ["mode.lua"] = modes.source(), ["normaliser.lua"] = "return 5", ["lib/a.b.lua"] = "x",
      ["notes.md"] = "", ["lib/fine.lua"] = "return 1" }) do
      assert(fs.write(dir .. "/" .. name, text))
    end
    local outcome = assert(check.folders({ dir }, { walk = false }))[1]
    fs.remove_tree(dir)
    local told = {}
    for i, problem in ipairs(outcome.problems) do
      told[i] = problem.severity .. " " .. problem.path:match("^.*/macp%-strangers%-[^/]*/(.*)$") .. " " .. problem.text
    end
    assert.same({ "warning lib/a.b.lua is no file of a mode and is not read",
      "warning normaliser.lua is no file of a mode and is not read (did you mean 'normalizer.lua'?)" }, told)
  end)
end)
