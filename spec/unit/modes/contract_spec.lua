local modes = require("spec.support.modes")

local function contains(list, text)
  for _, line in ipairs(list) do
    if line:find(text, 1, true) then return true end
  end
  return false
end

-- Each row: what is changed in a good mode, and a line that must be reported.
local CASES = {
  { "messages", "messages = { Put = { from = 'participant', aply = 1 } },",
    "messages.Put.aply: unknown field (did you mean 'apply'?)" },
  { "messages", "messages = { Put = { from = 'everybody' } },", "messages.Put.from: unknown role 'everybody'" },
  { "messages", "messages = { Put = { } },", "'from' is required" },
  { "messages", "messages = { Put = { from = {} } },", "names nobody who may send" },
  { "messages", "messages = { Signal = { from = 'participant' } },", "is a message of the protocol itself" },
  { "messages", "messages = { },", "at least one message is needed" },
  { "messages", "messages = { Put = { from = 'participant', needs = { 'text' } } },", "must be { text, function" },
  { "messages", "messages = { Put = { from = 'participant', needs = { { 'text', 1 } } } },",
    "the second element is a function" },
  { "messages", "messages = { Put = { from = 'participant', needs = { { 't', function() end, 'FORBIDEN' } } } },",
    "unknown code 'FORBIDEN' (did you mean 'FORBIDDEN'?)" },
  { "messages", "messages = { Put = { from = 'participant', apply = 5 } },",
    "messages.Put.apply: must be a function, not a number" },
  { "messages", "messages = { Put = { from = 'participant', payload = 'string a = 1 [ref = itens];' } },",
    "payload field 'a': 'itens' is not a map of the state (did you mean 'items'?)" },
  { "messages", "messages = { Put = { from = 'runtime' } },", "'runtime' needs a timer" },
  { "messages", "messages = { Put = { from = 'participant' }, SessionStart = { payload = '' } },",
    "messages.SessionStart.payload: unknown field" },
  { "messages", "messages = { Put = { from = 'participant', encoding = 'xml' } },",
    "must be one of proto, json, json|proto" },
  { "id", "id = 'macp.mode.spec.v1',", "reserved for the standard modes" },
  { "id", "id = 'spec',", "reverse domain" },
  { "id", "id = 'ext.Spec.v1',", "ext.<name>.v<major>" },
  { "version", "version = '1.0',", "semantic version" },
  { "determinism", "determinism = 'maybe',", "must be one of structural-only" },
  { "title", "", "title: is required" },
  { "title", "titel = 'x',", "unknown field (did you mean 'title'?)" },
  { "state", "state = { f = function() end },", "state is plain data" },
  { "outcomes", "outcomes = {},", "at least one outcome" },
  { "outcomes", "outcomes = { { action = 'x.rejected', positive = true } },", "needs positive = false" },
  { "outcomes", "outcomes = { { action = 'x.done' }, { action = 'x.done' } },", "is listed twice" },
  { "participants", "participants = { min = 5, max = 2 },", "is above max" },
  { "participants", "participants = { initiator = 'requird' },", "(did you mean 'required'?)" },
  { "timers", "timers = { tick = { due = 1, emit = function() end } },", "timers.tick.due: must be a function" },
  { "timers", "timers = { tick = { due = function() end, emit = function() end } },", "no message has 'runtime'" },
  { "policy", "policy = { rules = { ['commitment.authority'] = { type = 'string' } } },", "belongs to the kernel" },
  { "policy", "policy = { rules = { ['a.b'] = { type = 'integer', min = 1, default = 0 } } },",
    "expected a whole number of at least 1, got 0" },
  { "policy", "policy = { rules = { ['a.b'] = { type = 'string', one_of = { 'x' }, alias = { old = 'y' } } } },",
    'policy.rules["a.b"].alias.old: expected one of x, got "y"' },
  { "policy", "policy = { rules = { nodot = { type = 'integer' } } },", "a rule path is" },
  { "policy", "policy = { rules = { ['a.b'] = { type = 'int' } } },", "must be one of boolean, integer" },
  { "policy", "policy = { rules = { ['a.b'] = { type = 'boolean', requires = { 'a.z', true } } } },",
    "'a.z' is no rule" },
  { "policy", "policy = { rules = { ['a.b'] = { type = 'boolean', caution = { 'text', below = 3, unless = 1 } } } },",
    "must be { text, below = version" },
  { "invariants", "invariants = { { 'text' } },", "must be { text, function(s, c) }" },
  { "api", "api = 2,", "version 1 of the mode API" },
  { "outcomes", "outcomes = { nil, { action = 'x.done' } },", "outcomes[2]: outcomes is an array without holes" },
  { "invariants", "invariants = { x = { 't', function() end } },", "invariants.x: invariants is an array" },
  { "invariants", "invariants = { { 't', function() end, 'more' } },", "invariants[1][3]: unexpected array entry" },
  { "messages", "messages = { Put = { from = { 'participant', also = 'initiator' } } },",
    "messages.Put.from.also: from is a role or an array of roles" },
  { "messages", "messages = { Put = { from = 'participant', needs = { x = { 't', function() end } } } },",
    "messages.Put.needs.x: needs is an array without holes" },
  { "participants", "participants = { max = 2, others = 3 },", "participants.others: is above max" },
  { "participants", "participants = { min = 0.5 },", "participants.min: must be a whole number, not 0.5" },
  { "policy", "policy = { rules = { ['a.b'] = { type = 'integer', min = 5, max = 2 } } },",
    'policy.rules["a.b"].max: leaves no value between the bounds' },
  { "policy", "policy = { rules = { ['a.b'] = { type = 'number', over = 1, max = 1 } } },",
    "leaves no value between the bounds" },
  { "policy", "policy = { rules = { ['a.b'] = { type = 'string', one_of = {} } } },", "one_of: names no value" },
  { "policy", "policy = { rules = { ['a.b'] = { type = 'string', one_of = { 1 } } } },",
    "one_of[1]: must be of the type 'string', not a number" },
  { "policy", "policy = { rules = { ['a.b'] = { type = 'string', min = 1 } } },",
    "min: does not apply to the type 'string'" },
  { "policy", "policy = { rules = { ['a.b'] = { type = 'boolean', one_of = { true } } } },",
    "one_of: does not apply to the type 'boolean'" },
  { "policy", "policy = { rules = { ['a.b'] = { type = 'integer', nonempty = true } } },",
    "nonempty: does not apply to the type 'integer'" },
}

local GOOD = {
  { "id", "id = 'ext.spec.v1'," }, { "version", "version = '1.0.0'," }, { "title", "title = 'T'," },
  { "summary", "summary = 'S'," }, { "participants", "" }, { "determinism", "determinism = 'structural-only'," },
  { "state", "state = { items = {} }," }, { "messages", "messages = { Put = { from = 'participant' } }," },
    { "timers", "" },
  { "outcomes", "outcomes = { { action = 'x.completed', positive = true } }," }, { "policy", "" }, { "invariants", "" },
  { "api", "" },
}

-- The mode with one piece replaced, one piece per line, so that lines can be told.
local function variant(piece, text)
  local lines, line_of = { "return {" }, nil
  for _, entry in ipairs(GOOD) do
    lines[#lines + 1] = entry[1] == piece and text or entry[2]
    if entry[1] == piece then line_of = #lines end
  end
  return table.concat(lines, "\n") .. "\n}", line_of
end

describe("the contract of mode.lua", function()
  it("accepts a mode", function()
    assert.same({}, modes.problems((variant(nil, nil))))
  end)

  for _, case in ipairs(CASES) do
    it("reports " .. case[3], function()
      local source, line = variant(case[1], case[2])
      local found = modes.problems(source)
      assert.is_true(contains(found, case[3]), table.concat(found, "\n") .. "\nlacks: " .. case[3])
      if case[2] ~= "" then assert.is_true(contains(found, line .. ": "), found[1] .. " is not at line " .. line) end
    end)
  end

  it("collects all problems at once", function()
    local found = modes.problems([[
return {
  id = "nope",
  version = 1,
  titel = "x",
  summary = " ",
  messages = { Put = { from = "initator", neds = {} } },
  outcomes = { { action = "x.failed", positive = true } },
}]])
    assert.is_true(#found >= 8, table.concat(found, "\n"))
  end)

  it("locates syntax errors, wrong returns and errors while loading", function()
    assert.same({ "2: unexpected symbol near 'return'" }, modes.problems("local a =\nreturn {}"))
    assert.same({ "1: mode.lua must return a table, not nothing" }, modes.problems("local a = 1"))
    assert.same({ "3: attempt to call local 'f' (a nil value)" }, modes.problems("local f\n\nf()\nreturn {}"))
  end)

  it("locates errors in lib files and refuses other modules", function()
    local found = modes.problems({ ["mode.lua"] = 'return require "lib.rules"',
      ["lib/rules.lua"] = "\n\nlocal x = nil + 1" })
    assert.same({ "3: attempt to perform arithmetic on a nil value" }, found)
    assert.is_true(contains(modes.problems('local s = require "socket" return {}'), "cannot require 'socket'"))
    assert.is_true(contains(modes.problems('return require "lib.none"'), "there is no file lib/none.lua"))
  end)

  it("stops a file that never ends", function()
    assert.is_true(contains(modes.problems("local i = 0 while true do i = i + 1 end return {}"), "instruction limit"))
  end)

  it("refuses bytecode", function()
    local found = modes.problems(string.dump(assert(loadstring("return {}"))))
    assert.same({ "1: this is bytecode, only source text is loaded" }, found)
  end)
end)

describe("the contract of the presentation files", function()
  local function view(name, text)
    return modes.problems({ ["mode.lua"] = modes.source(), [name] = text })
  end

  it("reports what does not exist", function()
    assert.is_true(contains(view("normalizer.lua", "return { events = { Putt = { 'proposal.created' } } }"),
      "there is no message 'Putt' (did you mean 'Put'?)"))
    assert.is_true(contains(view("normalizer.lua", "return { events = { Put = { 'proposal.craeted' } } }"),
      "unknown event 'proposal.craeted' (did you mean 'proposal.created'?)"))
    assert.is_true(contains(view("normalizer.lua", "return { hide = { Put = { 'nonce' } } }"),
      "there is no field 'nonce'"))
    assert.is_true(contains(view("reducer.lua", "return { rendr = function() end }"), "(did you mean 'render'?)"))
    assert.is_true(contains(view("reducer.lua", "return { reduce = { ['signal.emited'] = function() end } }"),
      "unknown event"))
    assert.is_true(contains(view("webhook.lua", "return { filter = true }"), "must be a function"))
    assert.is_true(contains(view("routes.lua", "return { { 'POST /x', handler = function() end } }"), "GET /path"))
    assert.is_true(contains(view("routes.lua", "return { { 'GET /x/:a', handler = function() end }, "
      .. "{ 'GET /x/:b', handler = function() end } }"), "the same route stands above"))
  end)

  it("refuses what would be passed over in silence", function()
    local function only(name, text) return table.concat(view(name, text), "; ") end
    assert.equal("1: hide.Put: must be an array of field names, not a string",
      only("normalizer.lua", "return { hide = { Put = 'key' } }"))
    assert.equal("1: hide.Put.a: hide is an array of field names",
      only("normalizer.lua", "return { hide = { Put = { 'key', a = 'n' } } }"))
    assert.equal("1: hide.Commitment: a Commitment is always decision.finalized and shown as it is",
      only("normalizer.lua", "return { hide = { Commitment = { 'reason' } } }"))
    assert.equal("1: events.Commitment: a Commitment is always decision.finalized and shown as it is",
      only("normalizer.lua", "return { events = { Commitment = { 'proposal.updated' } } }"))
    assert.equal("1: events.Put.id: events of one message are an array",
      only("normalizer.lua", "return { events = { Put = { { 'proposal.updated' }, id = 'key' } } }"))
    assert.equal("1: events.Put.id: there is no field 'kye' (did you mean 'key'?)",
      only("normalizer.lua", "return { events = { Put = { 'proposal.updated', id = 'kye' } } }"))
    assert.equal("1: x: routes.lua returns an array without holes",
      only("routes.lua", "return { x = { 'GET /x', handler = function() end } }"))
  end)

  it("accepts events of a name space of its own", function()
    assert.same({}, view("normalizer.lua", "return { events = { Put = { 'ext.spec.put' } } }"))
  end)
end)
