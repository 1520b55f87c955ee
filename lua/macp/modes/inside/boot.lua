-- Boot: the entry functions of an isolate that runs one mode. Loads the files of a folder into the sandbox, shows
-- them to the contract as plain data, then builds what step and view run on.

local native = native
local commitment = require("macp.modes.inside.commitment")
local kit = require("macp.modes.inside.kit")
local payloads = require("macp.modes.inside.payload")
local policy = require("macp.modes.inside.policy")
local sandbox = require("macp.modes.inside.sandbox")
local sessions = require("macp.modes.inside.sessions")
local slices = require("macp.modes.inside.slices")
local state = require("macp.modes.inside.state")
local step = require("macp.modes.inside.step")
local view = require("macp.modes.inside.view")

local FUNCTION, CYCLE = "\0function", "\0cycle"
local MAX_DEPTH = 12

local mode, mode_env        -- what mode.lua returned, its environment
local presentation, view_env = {}, nil
local program

-- A value as plain data: functions become a mark, so that the contract can judge the shape.
local function shape_of(value, open, depth)
  local kind = type(value)
  if kind == "function" then return FUNCTION end
  if kind ~= "table" then return value end
  if open[value] or depth > MAX_DEPTH then return CYCLE end
  open[value] = true
  local out = {}
  for key, item in next, value do
    if type(key) == "string" or type(key) == "number" then out[key] = shape_of(item, open, depth + 1) end
  end
  open[value] = nil
  return out
end

local function reader(files, root)
  return function(name)
    local path = "lib/" .. name .. ".lua"
    return files[path], "@" .. root .. path
  end
end

-- Runs one file of the folder and returns the shape of what it returned.
local function run_file(files, root, name, env)
  return sandbox.run(files[name], "@" .. root .. name, env)
end

local E = {}

---Loads mode.lua; returns its shape.
function E.load_mode(files, root)
  mode_env = sandbox.environment(kit.public, reader(files, root))
  mode = run_file(files, root, "mode.lua", mode_env)
  return shape_of(mode, {}, 0)
end

---Loads one presentation file; returns its shape. Takes effect with install_view.
function E.load_view(files, root, name, is_first)
  if is_first or view_env == nil then
    view_env = sandbox.environment(kit.public, reader(files, root))
    presentation = {}
  end
  presentation[name] = run_file(files, root, name, view_env)
  return shape_of(presentation[name], {}, 0)
end

local function build_needs(source, model, path)
  local out = {}
  for i, need in ipairs(model) do
    out[i] = { text = need.text, code = need.code, test = source.needs[i][2], rule = path .. ".needs[" .. i .. "]" }
  end
  return out
end

local function build_type(entry, source, package)
  local path = "messages." .. entry.type
  local compiled = payloads.compile(package .. "." .. entry.type .. "Payload", entry.fields, entry.encoding)
  local from = entry.from
  return {
    type = entry.type, fields = entry.fields, from = from, from_rule = path .. ".from",
    runtime_only = from.runtime and not (from.participant or from.initiator or from.committer or from.anyone),
    is_raw = entry.encoding == "raw",
    decode = compiled.decode, encode = compiled.encode, normalise = compiled.normalise, check = compiled.check,
    payload_rule = path .. ".payload", needs = build_needs(source, entry.needs, path),
    apply = source.apply, apply_subject = path .. ".apply",
  }
end

local function build_commitment(entry, source)
  return {
    type = "Commitment", is_commitment = true, fields = commitment.fields, from = entry.from,
    from_rule = "commitment.authority", decode = commitment.decode, encode = commitment.encode,
    payload_rule = "commitment", needs = build_needs(source, entry.needs, "messages.Commitment"),
    apply = source.apply, apply_subject = "messages.Commitment.apply",
  }
end

local function build_state(model)
  if model.state_function then return mode.state end
  local initial = mode.state or {}
  return function() return sandbox.copy(initial) end
end

local function build_timers(model)
  local out = {}
  for i, timer in ipairs(model.timers) do
    local source, path = mode.timers[timer.name], "timers." .. timer.name
    out[i] = { name = timer.name, prefix = timer.prefix, due = source.due, emit = source.emit,
      due_subject = path .. ".due", emit_subject = path .. ".emit" }
  end
  return out
end

local function build_outcomes(model)
  local out = {}
  for i, outcome in ipairs(model.outcomes) do
    out[i] = { action = outcome.action, positive = outcome.positive, when = mode.outcomes[i].when,
      subject = "outcomes[" .. i .. "].when" }
  end
  return out
end

local function build_types(model)
  local types, names = {}, {}
  for _, entry in ipairs(model.messages) do
    types[entry.type] = build_type(entry, mode.messages[entry.type], model.package)
    names[#names + 1] = entry.type
  end
  types.Commitment = build_commitment(model.commitment, mode.messages.Commitment or {})
  names[#names + 1] = "Commitment"
  return types, table.concat(names, ", ")
end

---Builds the program from the model that the contract made of the shape.
function E.install(model, options)
  local types, type_list = build_types(model)
  local start = model.session_start
  local source = mode.messages.SessionStart
  local rules = policy.compile(model.policy.rules)
  program = {
    id = model.id, version = model.version, revision = options.revision, standard = model.standard,
    types = types, type_list = type_list, participants = model.participants,
    session_start = start and { needs = build_needs(source, start.needs, "messages.SessionStart"), apply = source.apply,
      apply_subject = "messages.SessionStart.apply" } or nil,
    state = build_state(model), timers = build_timers(model), outcomes = build_outcomes(model),
    policy = rules, rule_ids = rules.by_path, evaluate = mode.policy and mode.policy.evaluate, result = mode.result,
    strict_actions = model.strict_actions, strict_supersedes = options.strict_supersedes or false,
    lenient_outcomes = options.lenient_outcomes or false,
    max_state_bytes = options.max_state_bytes, invariants = mode.invariants or {},
  }
  step.install(program)
  sessions.install(program)
  view.install(program, {})
end

---Puts the loaded presentation files in charge.
function E.install_view()
  view.install(program, presentation)
end

---A Lua fixture as plain data: { keys = {...}, steps = { { list, keys } ... } }; nil, reason, step that is wrong.
function E.load_fixture(text, chunk)
  local env = sandbox.environment(kit.public, function() return nil end)
  local fixture = sandbox.run(text, chunk, env)
  if type(fixture) ~= "table" then return nil, "a fixture returns a table, not " .. type(fixture) end
  local out = { keys = {}, steps = {} }
  for key, value in next, fixture do
    if type(key) == "string" then out.keys[key] = shape_of(value, {}, 0) end
  end
  for i, entry in ipairs(fixture) do
    if type(entry) ~= "table" then return nil, "step " .. i .. " is not a table but a " .. type(entry), i end
    local line = { list = {}, keys = {} }
    for key, value in next, entry do
      line[type(key) == "number" and "list" or "keys"][key] = shape_of(value, {}, 0)
    end
    out.steps[i] = line
  end
  return out
end

function E.encode_payload(name, value)
  local spec = program.types[name]
  if spec == nil then return nil, "unknown message type '" .. name .. "'" end
  return spec.encode(value)
end

function E.decode_payload(name, bytes)
  local spec = program.types[name]
  if spec == nil then return nil, "unknown message type '" .. name .. "'" end
  return spec.decode(bytes)
end

function E.hash(key)
  step.enter("state", "state")
  return state.hash(step.sessions[key].s)
end

---The state as plain data (fixtures, inspection).
function E.state(key)
  return sandbox.copy(step.sessions[key].s)
end

function E.size(key)
  local s = step.sessions[key].s
  return state.count(s), #state.encode(s)
end

function E.shuffle(key, seed)
  local session = step.sessions[key]
  session.s = state.shuffle(session.s, seed)
end

---Encodes and decodes the state in place.
function E.recode(key)
  local session = step.sessions[key]
  session.s = state.decode(state.encode(session.s))
end

---Index and text of the first invariant that does not hold; nil when all do.
function E.broken_invariant(key)
  local session = step.sessions[key]
  for i, invariant in ipairs(program.invariants) do
    if not invariant[2](session.s, session.c) then return i, invariant[1] end
  end
  return nil
end

---Readiness of both polarities, and the due times of all timers.
function E.ready(key)
  local session = step.sessions[key]
  return step.is_ready(session, true), step.is_ready(session, false)
end

function E.sessions()
  local n = 0
  for _ in next, step.sessions do n = n + 1 end
  return n
end

E.log = kit.take_log
E.view = function(key)
  local text, problem = native.json_encode(view.view_of(step.sessions[key]), true)
  if text == nil then error("view: " .. tostring(problem), 0) end
  return text
end
for _, name in ipairs({ "submit", "apply", "fire", "due", "failed" }) do E[name] = step[name] end
for _, name in ipairs({ "start", "encode", "restore", "drop", "explain" }) do E[name] = sessions[name] end
E.encode_begin, E.encode_step, E.encode_stop = slices.begin, slices.step, slices.stop
for _, name in ipairs({ "observe", "payload_json", "degrade", "render", "summary", "reduce", "webhook", "route" }) do
  E[name] = view[name]
end

return E
