-- Contract: what mode.lua must and may provide. Takes the returned table as plain data plus the scanner's map,
-- reports every problem, and gives the normalised model from which the isolate builds its step function.

local checker = require("macp.modes.checker")
local contract_messages = require("macp.modes.contract_messages")
local contract_policy = require("macp.modes.contract_policy")
local contract_template = require("macp.modes.contract_template")
local polarity = require("macp.modes.inside.polarity")
local semver = require("macp.core.semver")

local join = checker.join

local TOP = { "template", "id", "version", "title", "summary", "api", "package", "participants", "determinism", "state",
  "messages",
  "timers", "outcomes", "policy", "result", "strict_actions", "invariants", "schema_uris" }
local CLASSES = { "structural-only", "semantic-deterministic", "context-frozen", "non-deterministic" }
local STANDARD_MODELS = { "declared", "quorum", "orchestrated", "peer", "delegated" }
local STANDARD = { decision = true, proposal = true, task = true, handoff = true, quorum = true }
local INITIATOR_RULES = { "required", "excluded", "optional" }
local MAX_PARTICIPANTS = 1000

local M = {}

local function check_id(c, id)
  local standard = id:match("^macp%.mode%.(.*)$")
  if standard then
    local name = standard:match("^([%l_]+)%.v%d+$")
    if not (name and STANDARD[name]) then
      c:problem("id", "'macp.mode.*' is reserved for the standard modes; use 'ext.<name>.v1'", "identity.reserved")
    end
    return true
  end
  if #id > 128 then
    c:problem("id", "must be at most 128 characters", "identity.form")
  elseif id:find("^macp%.") then
    c:problem("id", "names that begin with 'macp.' are reserved", "identity.reserved")
  elseif id:find("^ext%.") then
    if not id:find("^ext%.[%l%d_][%l%d_%.]*%.v%d+$") then
      c:problem("id", "must be 'ext.<name>.v<major>' in lower case", "identity.form")
    end
  elseif not id:find("^[%l%d_%-]+%.[%l%d_%-]+%.[%l%d_%.%-]+$") then
    c:problem("id", "must be 'ext.<name>.v<major>' or a reverse domain such as 'com.example.name.v1'", "identity.form")
  end
  return false
end

local function check_names(c, mode, model)
  model.id = c:text(mode, "", "id", true)
  model.version = c:text(mode, "", "version", true)
  model.title = c:text(mode, "", "title", true)
  model.summary = c:text(mode, "", "summary", true)
  model.determinism = c:choice(mode, "", "determinism", CLASSES, true)
  if model.version and not semver.parse(model.version) then
    c:problem("version", "must be a semantic version such as '1.0.0'", "identity.version")
  end
  model.standard = model.id ~= nil and check_id(c, model.id)
end

local function check_identity(c, mode, model)
  if mode.template ~= nil then
    contract_template.check(c, mode, model)
  else
    check_names(c, mode, model)
  end
  model.package = c:text(mode, "", "package", model.template ~= nil) or model.id
  model.api = c:get(mode, "", "api", "integer") or 1
  model.strict_actions = c:get(mode, "", "strict_actions", "boolean") or false
  model.result = c:get(mode, "", "result", "function") and true or false
  if model.api ~= 1 then c:problem("api", "this program knows version 1 of the mode API", "identity.api") end
  if model.package and not model.package:find("^[%a_][%w_]*[%w_%.]*$") then
    c:problem("package", "must be a proto package name", "identity.package")
  end
end

local function check_bound(c, tbl, key, min)
  local value = c:get(tbl, "participants", key, "integer")
  if value and (value < min or value > MAX_PARTICIPANTS) then
    c:problem(join("participants", key), string.format("must be %d to %d", min, MAX_PARTICIPANTS), "participants.range")
    return nil
  end
  return value
end

local function check_participants(c, mode, model)
  local tbl = c:get(mode, "", "participants", "table") or {}
  c:keys(tbl, "participants", { "model", "min", "max", "others", "initiator" })
  local out = { min = check_bound(c, tbl, "min", 0) or 0, max = check_bound(c, tbl, "max", 1) or MAX_PARTICIPANTS,
    others = check_bound(c, tbl, "others", 0) or 0 }
  out.model = c:text(tbl, "participants", "model") or "peer"
  if model.standard then c:choice(tbl, "participants", "model", STANDARD_MODELS, true) end
  out.initiator = c:choice(tbl, "participants", "initiator", INITIATOR_RULES) or "optional"
  for _, key in ipairs({ "min", "others" }) do
    if out[key] > out.max then c:problem(join("participants", key), "is above max", "participants.range") end
  end
  model.participants = out
end

local function check_timer(c, name, timer, model)
  local path = join("timers", name)
  if not checker.is_kind(timer, "table") then
    return c:problem(path, "must be a table { due =, emit = }", "type")
  end
  c:keys(timer, path, { "prefix", "due", "emit" })
  c:get(timer, path, "due", "function", true)
  c:get(timer, path, "emit", "function", true)
  local prefix = c:text(timer, path, "prefix") or ("timer:" .. name)
  for _, other in ipairs(model.timers) do
    if other.prefix == prefix then
      c:problem(join(path, "prefix"), "'" .. prefix .. "' is also the prefix of '" .. other.name .. "'",
        "timers.prefix")
    end
  end
  model.timers[#model.timers + 1] = { name = name, prefix = prefix }
end

local function check_timers(c, mode, model)
  model.timers = {}
  local timers = c:get(mode, "", "timers", "table") or {}
  local names = {}
  for name in pairs(timers) do names[#names + 1] = name end
  table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
  for _, name in ipairs(names) do
    if type(name) ~= "string" then
      c:problem(join("timers", name), "timers have names", "type")
    else
      check_timer(c, name, timers[name], model)
    end
  end
end

local function check_outcome(c, index, outcome, seen)
  local path = join("outcomes", index)
  if not checker.is_kind(outcome, "table") then
    c:problem(path, "must be a table { action =, positive =, when = }", "type")
    return nil
  end
  c:keys(outcome, path, { "action", "positive", "when", "doc" })
  local action = c:text(outcome, path, "action", true)
  local positive = c:get(outcome, path, "positive", "boolean")
  local out = { action = action, positive = positive, doc = c:get(outcome, path, "doc", "string"),
    when = c:get(outcome, path, "when", "function") and true or false }
  if not action then return nil end
  local demanded = polarity.of(action)
  if positive ~= nil and demanded ~= nil and demanded ~= positive then
    c:problem(join(path, "positive"), string.format("an action that ends like '%s' needs positive = %s", action,
      tostring(demanded)), "outcomes.suffix")
  end
  if seen[action] then c:problem(join(path, "action"), "'" .. action .. "' is listed twice", "outcomes.duplicate") end
  seen[action] = true
  return out
end

local function check_outcomes(c, mode, model)
  model.outcomes = {}
  local outcomes = c:get(mode, "", "outcomes", "table", true)
  if not outcomes then return end
  local seen = {}
  c:array(outcomes, "outcomes", "outcomes is an array without holes", "type")
  for index, outcome in ipairs(outcomes) do
    model.outcomes[index] = check_outcome(c, index, outcome, seen)
  end
  if #outcomes == 0 then
    c:problem("outcomes", "at least one outcome is needed, or no session could ever end", "outcomes.empty")
  end
end

local function check_invariants(c, mode, model)
  model.invariants = {}
  local invariants = c:get(mode, "", "invariants", "table") or {}
  c:array(invariants, "invariants", "invariants is an array without holes", "type")
  for index, entry in ipairs(invariants) do
    local path = join("invariants", index)
    if checker.is_kind(entry, "table") then c:keys(entry, path, { 1, 2 }) end
    if not checker.is_kind(entry, "table") or not checker.is_kind(entry[1], "string")
      or not checker.is_kind(entry[2], "function") then
      c:problem(path, "must be { text, function(s, c) }", "type")
    else
      model.invariants[index] = { text = entry[1], line = c:line(path) }
    end
  end
end

local function check_state(c, mode, model)
  local state = mode.state
  model.state_function = state == checker.FUNCTION
  if state == nil or model.state_function then return end
  if not checker.is_kind(state, "table") then
    c:problem("state", "must be a table or a function(c), not " .. checker.describe(state), "type")
    return
  end
  local function walk(tbl, path)
    for key, value in pairs(tbl) do
      local at = join(path, key)
      if value == checker.FUNCTION or value == checker.CYCLE then
        c:problem(at, "state is plain data: no functions, no cycles", "state.plain")
      elseif type(value) == "table" then
        walk(value, at)
      end
    end
  end
  walk(state, "state")
  model.state_fields = {}
  for key, value in pairs(state) do model.state_fields[key] = type(value) end
end

local function check_schema_uris(c, mode, model)
  local uris = c:get(mode, "", "schema_uris", "table")
  if not uris then return end
  model.schema_uris = {}
  for key, value in pairs(uris) do
    if type(key) ~= "string" or not checker.is_kind(value, "string") then
      c:problem(join("schema_uris", key), "maps a name to an URI", "type")
    else
      model.schema_uris[key] = value
    end
  end
end

-- Roles and timers belong together: a runtime message needs a timer that emits it, and the reverse.
local function check_runtime_role(c, model)
  local first
  for _, message in ipairs(model.messages) do
    if message.from.runtime then first = first or message end
  end
  if first and #model.timers == 0 then
    c:problem(join(join("messages", first.type), "from"), "'runtime' needs a timer that emits this message",
      "messages.runtime")
  elseif not first and #model.timers > 0 then
    c:problem(join("timers", model.timers[1].name), "no message has 'runtime' in its from, so nothing can be emitted",
      "timers.runtime")
  end
end

---Validates mode.lua.
---@param mode any the returned value as plain data
---@param map table scanner map
---@param file string path shown in problems
---@return table[] problems
---@return table model valid only when no problem is an error
function M.check(mode, map, file)
  local problems, model = {}, {}
  local c = checker.new(file, map, problems)
  if not checker.is_kind(mode, "table") then
    c:problem("", "mode.lua must return a table, not " .. checker.describe(mode), "syntax.return", map.return_line)
    return problems, model
  end
  c:keys(mode, "", TOP)
  check_identity(c, mode, model)
  check_participants(c, mode, model)
  check_state(c, mode, model)
  check_timers(c, mode, model)
  contract_messages.check(c, mode, model)
  check_runtime_role(c, model)
  check_outcomes(c, mode, model)
  contract_policy.check(c, mode, model)
  check_invariants(c, mode, model)
  check_schema_uris(c, mode, model)
  return problems, model
end

---The ModeDescriptor of a valid model.
function M.descriptor(model)
  if model.template then return model.template end
  local types = { "SessionStart" }
  for _, message in ipairs(model.messages) do types[#types + 1] = message.type end
  types[#types + 1] = "Commitment"
  local uris = model.schema_uris
  if not uris then
    local uri = model.standard and "buf.build/multiagentcoordinationprotocol/macp" or "macp:" .. model.package
    uris = { protobuf = uri, proto = uri }
  end
  return {
    mode = model.id, mode_version = model.version, title = model.title, description = model.summary,
    determinism_class = model.determinism, participant_model = model.participants.model,
    message_types = types, terminal_message_types = { "Commitment" }, schema_uris = uris,
  }
end

return M
